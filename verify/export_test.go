package verify

// HoldFew lets a Verifier hold no more than n rows of a table without a key at once.
func (v *Verifier) HoldFew(n uint64) { v.few = n }

// Between lets f be called between a look at the source and the wait for the pipeline.
func (v *Verifier) Between(f func(what string)) { v.between = f }
