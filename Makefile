# "make" lists the targets. Nothing here needs Docker. The servers that tests and
# the demo use are fetched once into a cache by scripts/servers.sh.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
export CGO_ENABLED ?= 0

# GOTEST is the one way in which tests are run: no cached results, and a report
# that fails on a skipped test.
GOTEST  = go test -json -count=1 -timeout 20m
REPORT  = go run ./internal/testreport

.PHONY: help build demo test check bench benchdocs microbench backlog benchtargets soak large lostcommits failover tablefuzz relfuzz copykill targetkill archive failpoints iosweep flips noalarm monitorbench servers fuzz clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

build: ## compile the example programs into bin/
	go build -trimpath -o bin/ ./examples/...

demo: ## see it work: two MySQL servers, a shop under load, a kill -9, the verdict (about a minute)
	@scripts/servers.sh mysql-9.7
	@go run ./internal/demo $(ARGS)

test: servers ## run all tests against real servers; a skipped test fails
	$(GOTEST) ./... | $(REPORT)

# What runs in the processes of tests. The others test programs, in processes of
# their own that the race detector does not see.
RACED = . ./cdc/... ./queue/... ./sink/... ./dpu/... ./relmgr/... ./verify/... ./monitor/... ./dfstest/... ./internal/config ./internal/convert ./internal/match ./internal/rowevent \
	./internal/childproc ./internal/faults ./internal/noalarm ./internal/testreport

check: ## format, vet, staticcheck, go.mod, and the packages' tests under the race detector
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "run gofmt -w on:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go tool staticcheck ./...
	go mod tidy -diff
	CGO_ENABLED=1 $(GOTEST) -race $(RACED) | $(REPORT)

bench: ## measure against the native replica, canal, mysqlbinlog, mydumper and mysqldump (ARGS="-save FILE" keeps it, SCALE=1 is full size)
	@scripts/servers.sh mysql-9.7 mariadb-10.11 postgresql-15 mydumper
	@go run ./internal/bench $(ARGS)

benchdocs: ## write the figures of the README, docs/BENCHMARKS.md and the chart from what bench has saved (FROM=bench.json or a list with commas)
	@go run ./internal/bench -from $(or $(FROM),docs/benchmarks.json) -save docs/benchmarks.json \
	  -md docs/BENCHMARKS.md -svg docs/img/benchmarks.svg -readme README.md >/dev/null

microbench: ## ns and allocations of reading a log, decoding, the queue, merging and encoding, for benchstat (COUNT=6)
	go test ./cdc ./sink ./internal/rowevent -run '^$$' -bench '^Benchmark(Frame|DecodeRows|Merge|Append|JSON)$$' -count $(or $(COUNT),6)
	go test ./queue -run '^$$' -bench '^Benchmark(Apply|Read)$$' -count $(or $(COUNT),6)

backlog: ## what a queue costs in which 20 million transactions wait (BACKLOG=20000000)
	go test ./queue -v -count=1 -timeout 1h -run TestALongBacklogCostsNoMore -backlog $(or $(BACKLOG),20000000)

soak: ## random faults under load for as long as told (DURATION=1h, ARGS="..." passes flags)
	@scripts/servers.sh
	@go run ./internal/soak $(if $(DURATION),-duration $(DURATION)) $(ARGS)

lostcommits: ## lose COMMITs to the target or their answers: none is done twice (COUNT=500 times, of one to four COMMITs)
	@scripts/servers.sh
	@go run ./internal/soak -duration 6h -count $(or $(COUNT),500) -faults lost-commit $(ARGS)

failover: ## promote a standby of the source under load, by GTID (COUNT=20, ARGS="-pair mariadb-mariadb")
	@scripts/servers.sh
	@go run ./internal/soak -duration 6h -count $(or $(COUNT),20) -faults promote -standby -rate 1500 $(ARGS)

large: ## a transaction of 1 GiB, a row of 200 MiB, 10,000 tables and the like, killed on the way (ONLY=row,tables SCALE=0.1 ARGS="-ways direct")
	@scripts/servers.sh mysql-9.7 mariadb-10.11
	@go run ./internal/large $(if $(ONLY),-only $(ONLY)) -scale $(or $(SCALE),1) $(ARGS)

tablefuzz: ## random tables and changes on all pairs of servers for as long as told (DURATION=2h, ARGS="..." passes flags)
	@scripts/servers.sh
	@go run ./internal/tablefuzz $(if $(DURATION),-duration $(DURATION)) $(ARGS)

noalarm: ## verify under load for as long as told: no false alarm, no fault missed (DURATION=30m, ARGS="..." passes flags)
	@scripts/servers.sh
	@go run ./internal/noalarm $(if $(DURATION),-duration $(DURATION)) $(ARGS)

relfuzz: ## random schemas, workloads and faults through relmgr, in memory and with kill -9 between servers (SEEDS=200)
	@scripts/servers.sh
	go test ./relmgr -count=1 -timeout 2h -run 'TestTheTargetIsTheSourceWithOtherIDs|TestARealTarget' -seeds $(or $(SEEDS),200) -seed $(or $(SEED),1)

benchtargets: ## rows per second of single-row transactions into PostgreSQL and SQLite, at full durability (COUNT=5)
	@scripts/servers.sh postgresql-15
	go test ./sink -run '^$$' -bench ApplyElsewhere -benchtime 2s -count $(or $(COUNT),5)

targetkill: ## kill -9 writers to PostgreSQL and SQLite at random moments (KILLS=300)
	@scripts/servers.sh postgresql-15
	go test ./sink -v -count=1 -timeout 2h -run TestPostgresAndSQLiteSurviveKill -otherkills $(or $(KILLS),300)

copykill: ## kill -9 a copy of rows at random moments under load (KILLS=50, ROWS=300000, ARGS="-servers mariadb-10.11")
	@scripts/servers.sh
	go test ./cli -v -count=1 -timeout 2h -run TestACopyThatIsKilledGoesOn -kills $(or $(KILLS),50) -copyrows $(or $(ROWS),300000) $(ARGS)

archive: ## restore an archive to random transactions, and kill -9 its writer and its restore (POINTS=100, KILLS=50)
	@scripts/servers.sh
	go test ./internal/restore -v -count=1 -timeout 2h -points $(or $(POINTS),100) -kills $(or $(KILLS),50) $(ARGS)
	go test ./sink -v -count=1 -timeout 1h -run TestArchiveSurvivesKill -archivekills $(or $(KILLS),50)

failpoints: ## kill -9 the program at each named step, with each kind of pipeline that comes to it (COUNT=3, ARGS="-point sink.commit")
	@scripts/servers.sh mysql-9.7
	go test ./internal/failpoint -v -count=1 -timeout 6h -run TestTheProgramDiesAtEachPoint -failpoints $(or $(COUNT),3) $(ARGS)

iosweep: ## let each single access to a file fail, and cut the power after each: queue, letters, map of ids, journal, a target in SQLite, archive, messages
	go test ./queue ./relmgr ./monitor ./sink ./sink/stream -v -count=1 -timeout 4h -run 'TestEveryAccess|TestPowerLoss' -everyio

flips: ## change bytes of logs, with checksums and without (FLIPS=10000)
	go test ./cdc -v -count=1 -timeout 1h -run TestAChangedByteOfALog -flips $(or $(FLIPS),10000)

monitorbench: ## what the journal and 500 browsers cost, first paint, long tasks, page weight, memory (ROUNDS=7, FLOOD=10m)
	@scripts/servers.sh
	go test ./monitor -v -count=1 -timeout 2h -run 'TestCosts|TestThePageIsSmall|TestTheLogFilters' -measure $(or $(ROUNDS),7) -flood $(or $(FLOOD),10m) | grep -v '^=== '

servers: ## fetch the servers and the browser that the tests need, and mydumper
	@scripts/servers.sh
	@scripts/servers.sh mydumper

fuzz: ## run each fuzz target for 30 seconds
	@go list -f '{{if .TestGoFiles}}{{.Dir}}{{end}}{{if .XTestGoFiles}} {{.Dir}}{{end}}' ./... | tr ' ' '\n' | sort -u | while read -r dir; do \
	  [ -n "$$dir" ] || continue; \
	  for target in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$$dir"/*_test.go | cut -c6-); do \
	    echo "$$target"; (cd "$$dir" && go test -run '^$$' -fuzz "^$$target\$$" -fuzztime 30s .); \
	  done; done

clean: ## remove what was built
	rm -rf bin
