//go:build linux

package main

import (
	"slices"

	"github.com/dataflowsync/dfs/internal/testenv"
)

// onlySinks are the contenders that replay the backlog "sinks" and no other.
var onlySinks = []string{"transformed", "postgres", "sqlite"}

// partNames returns the names of what is measured.
func partNames() []string {
	var names []string
	for _, w := range workloads() {
		names = append(names, w.name)
		if w.relaxed {
			names = append(names, w.name+relaxedSuffix)
		}
	}
	return append(names, latencyPart, snapshotPart, verifyPart, relmgrPart, archivePart)
}

// wants reports whether -only asks for the name, which is one of all: it does
// if it names it, or none of all.
func (o *options) wants(name string, all []string) bool {
	return slices.Contains(o.only, name) ||
		!slices.ContainsFunc(o.only, func(s string) bool { return slices.Contains(all, s) })
}

// runs reports whether a contender takes part in a part that has these contenders by
// default. One that is none of them does where -only names both.
func (o *options) runs(part, contender string, defaults []string) bool {
	if slices.Contains(defaults, contender) {
		return o.wants(contender, contenderNames())
	}
	return slices.Contains(o.only, contender) && slices.Contains(o.only, part) && !slices.Contains(onlySinks, contender)
}

// wantsPart reports whether a part is to be measured, which has these contenders.
func (o *options) wantsPart(part string, contenders ...string) bool {
	return o.wants(part, partNames()) &&
		slices.ContainsFunc(contenderNames(), func(c string) bool { return o.runs(part, c, contenders) })
}

// durabilities returns with which durability of the targets w is to be replayed.
func (o *options) durabilities(w *workload) []durability {
	var list []durability
	if o.wantsPart(w.name, w.contenders...) && (!w.named || slices.Contains(o.only, w.name)) {
		list = append(list, strict)
	}
	if w.relaxed && o.wantsPart(w.name+relaxedSuffix, w.contenders...) {
		list = append(list, relaxed)
	}
	return list
}

// parts returns the names of what will be measured.
func (o *options) parts() []string {
	var names []string
	for _, w := range workloads() {
		for _, d := range o.durabilities(w) {
			names = append(names, partName(w, d))
		}
	}
	for _, p := range []struct {
		name       string
		contenders []string
	}{{latencyPart, latencyContenders}, {snapshotPart, copierNames()}, {verifyPart, []string{"dfs"}}, {relmgrPart, []string{"dfs"}}, {archivePart, []string{"dfs"}}} {
		if o.wantsPart(p.name, p.contenders...) {
			names = append(names, p.name)
		}
	}
	return names
}

// archives reports whether a backlog is to be kept in an archive.
func (o *options) archives(backlog string) bool {
	return slices.Contains(archived, backlog) && o.wantsPart(archivePart, "dfs")
}

// uses reports whether the tables of w are needed.
func (o *options) uses(w *workload) bool {
	return len(o.durabilities(w)) > 0 || o.archives(w.name) || w.name == latencyPart && o.wantsPart(latencyPart, latencyContenders...)
}

// needsMySQL reports whether anything is to be measured on MySQL.
func (o *options) needsMySQL() bool {
	return slices.ContainsFunc(workloads(), func(w *workload) bool { return w.kind == testenv.MySQL97 && o.uses(w) }) ||
		o.wantsPart(latencyPart, latencyContenders...) || o.wantsPart(snapshotPart, copierNames()...) ||
		o.wantsPart(verifyPart, "dfs") || o.wantsPart(relmgrPart, "dfs")
}

// partName is that of a workload with a durability.
func partName(w *workload, d durability) string {
	if d == relaxed {
		return w.name + relaxedSuffix
	}
	return w.name
}
