package cdc

import (
	"slices"
	"strconv"
)

// fault returns an error that ends the stream for good: what is in the log here
// cannot be handed on whole. It is not transient, since the log will not change;
// the cure is a person's to apply.
func (a *assembler) fault(what, cure string) error { return a.eventError(what, cure) }

func (a *assembler) eventError(what, cure string) *EventError {
	id := ""
	if a.tx.hasID {
		id = string(a.appendID(nil))
	}
	return &EventError{At: a.place(), ID: id, What: what, Cure: cure}
}

// refuse notes that the transaction, which e is a part of, holds what cannot be
// handed on. The error comes when the transaction ends, as it is then that the
// place after it is known. Until then its rows are dropped. What is before the
// place to begin at is of no interest.
func (a *assembler) refuse(e event, what, cure string) error {
	if a.skipTo > 0 {
		return nil
	}
	if !a.tx.open {
		if err := a.start(e); err != nil {
			return err
		}
	}
	if a.tx.refused == nil {
		a.tx.refused = a.eventError(what, cure)
		a.part = a.part[:0]
	}
	return nil
}

// after returns what Options.Start is to be for reading to begin behind the
// transaction, which ends here.
func (a *assembler) after() string {
	switch t := &a.tx; a.at.kind {
	case byGTID:
		// A copy, as the set is where reading stands.
		set, err := parseGTIDSet(a.at.set.String())
		if err != nil || !t.hasID {
			return ""
		}
		set.add(t.uuid, t.tag, t.gno)
		return "gtid:" + set.String()
	case byMaria:
		list := gtidList{slices.Clone(a.at.list.gtids)}
		list.set(t.maria)
		return "gtid:" + list.String()
	}
	return "file:" + a.file + ":" + strconv.FormatUint(a.off, 10)
}
