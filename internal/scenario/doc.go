// Package scenario has no code but tests: it runs the folders of testdata, each
// of which is one type, charset, setting or shape of the log, through whole
// pipelines between real servers. testdata/README.md says how to add one.
package scenario
