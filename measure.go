package dfs

// A Measure is a number that a part of a pipeline tells of itself.
type Measure struct {
	Name    string // in lower case with _, such as "events" or "stored_bytes"
	Help    string // what it counts, in one line
	Value   float64
	Counter bool // it only grows, from when the part was opened
}

// A Measurer is a Source, Stage, Queue or Sink that has numbers of its own to
// tell, for whoever shows the pipeline. Measures is cheap and safe at any time.
// Two names have a meaning to package monitor: unheard_seconds of a Source is how long it
// has heard nothing of what it reads, and zero while that is as usual; and gone of a
// Queue is 1 while what it keeps its data in was deleted, or replaced.
type Measurer interface {
	Measures() []Measure
}
