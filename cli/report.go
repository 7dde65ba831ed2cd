package cli

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/config"
	"github.com/go-sql-driver/mysql"
)

// A fault is one thing that is wrong, and what to do about it if that is known
// apart.
type fault struct {
	What string `json:"what"`
	Cure string `json:"cure,omitempty"`
}

// faultsOf takes err apart: each of the faults that it joins, once.
func faultsOf(err error) []fault {
	var file *config.Error
	var setup *cdc.SetupError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &file):
		var faults []fault
		for _, f := range file.Faults {
			faults = append(faults, fault{What: f.String()})
		}
		return faults
	case errors.As(err, &setup):
		var faults []fault
		for _, f := range setup.Faults {
			faults = append(faults, fault(f))
		}
		return faults
	}
	// An error of errors.Join says what its parts say, a line each. Others that
	// wrap several, as fmt.Errorf can, are one fault.
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var faults []fault
		var lines []string
		for _, e := range joined.Unwrap() {
			faults = append(faults, faultsOf(e)...)
			lines = append(lines, e.Error())
		}
		if strings.Join(lines, "\n") == err.Error() {
			return faults
		}
	}
	return []fault{{What: err.Error(), Cure: cureOf(err)}}
}

// cureOf says what to do about a server that cannot be reached, unless the error
// itself does.
func cureOf(err error) string {
	var e *mysql.MySQLError
	var network *net.OpError
	switch {
	case strings.Contains(err.Error(), "check that"), strings.Contains(err.Error(), "check the"):
		return ""
	case errors.As(err, &e) && (e.Number == 1045 || e.Number == 1698):
		return "check the user and the password"
	case errors.As(err, &network) && network.Op != "listen": // where it is this program that listens
		return "check that the server runs, and that host and port are right"
	}
	return ""
}

// report prints what is wrong, one fault a line, each cure below it.
func report(w io.Writer, title string, err error) {
	faults := faultsOf(err)
	if len(faults) == 1 && faults[0].Cure == "" {
		fmt.Fprintf(w, "basic: %s: %s\n", title, faults[0].What)
		return
	}
	fmt.Fprintf(w, "basic: %s:\n", title)
	printFaults(w, faults)
}

// reportParts prints the faults of open, part by part.
func reportParts(w io.Writer, err error) {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		report(w, "not started", err)
		return
	}
	for _, err := range joined.Unwrap() {
		var part *partError
		if errors.As(err, &part) {
			report(w, part.part+" cannot be used", part.err)
		} else {
			report(w, "not started", err)
		}
	}
}

func printFaults(w io.Writer, faults []fault) {
	for _, f := range faults {
		fmt.Fprintf(w, "  - %s\n", indent(f.What, "    "))
		if f.Cure != "" {
			fmt.Fprintf(w, "    cure: %s\n", indent(f.Cure, "    "))
		}
	}
}

// indent puts prefix before each line of s but the first.
func indent(s, prefix string) string {
	return strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n"+prefix)
}
