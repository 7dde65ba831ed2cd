package convert

// Digits is digits, for tests.
func (a Decimal) Digits() int { return a.digits() }
