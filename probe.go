package dfs

import (
	"context"
	"math"
	"time"
)

// A Prober is a Source that can be asked how its log and its clock stand.
type Prober interface {
	// Probe asks the source's server about what follows the given position. It
	// takes some round trips, so call it once a minute and not once a row. It may
	// be called at any time, also while a Stream is open.
	Probe(ctx context.Context, at Position) (Probe, error)
}

// Never is a PurgeIn that has no end.
const Never = time.Duration(math.MaxInt64)

// A Probe is what a Prober found out.
type Probe struct {
	At time.Time // when, by this host's clock

	// ClockOffset is how far the server's clock is ahead of this host's, and
	// ClockError how far that may be off: half of the quickest round trip.
	ClockOffset, ClockError time.Duration

	// Unread counts the transactions that the server has after the position,
	// followed or not, and UnreadBytes the bytes of its log. -1 if not known.
	Unread, UnreadBytes int64

	// PurgeIn is how long the server will keep what follows the position, if its
	// settings stay as they are: Never if it deletes nothing by age, and negative
	// if it may do so at any moment. PurgeKnown tells whether it could be found
	// out. Purged means that some of it is gone already.
	PurgeIn    time.Duration
	PurgeKnown bool
	Purged     bool

	// Keeps is how long the server keeps a file of its log that has ended; Never
	// as above, 0 if not known. Active says that the position is in the file that
	// the server still writes, which it never deletes by age; PurgeIn is then Keeps.
	Keeps  time.Duration
	Active bool
}

// A Clocked is a Source that knows how far the clock which its Committed times
// are of is ahead of this host's, as a Probe has found it.
type Clocked interface {
	ClockOffset() (ahead time.Duration, known bool)
}

// clockOffset returns how far the source's clock is ahead, or 0 if that is not
// known.
func (p *Pipeline) clockOffset() time.Duration {
	for _, part := range [...]any{p.Source, p.Decoder} {
		if c, ok := part.(Clocked); ok {
			ahead, _ := c.ClockOffset()
			return ahead
		}
	}
	return 0
}
