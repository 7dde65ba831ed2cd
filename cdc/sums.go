package cdc

import (
	"encoding/binary"
	"hash/crc32"
)

// A CRC32 is computed by an instruction for long runs of bytes, and for few at a time costs ten times
// as much each. Events are few bytes. So the checksums of many are verified at once: a CRC32 over
// bytes that end with their own CRC32 is the same number whatever they are, so if between two
// events stand bytes that take the register from there to where it begins, then one CRC32 over
// all of them ends with that number if each of theirs is right. The bytes between are the heads
// of packets, which are put back.
//
// Of what is wrong, 1 in 4 billion is missed, as before, and nothing that has up to 3 wrong bits, or
// all of them within 32: that holds for up to 11 KB (Koopman, "32-Bit Cyclic Redundancy Codes for
// Internet Applications", 2002), below which mostRun stays.
const (
	mostRun       = 8 << 10 // bytes
	mostRunEvents = 64

	// crcResidue is the CRC32 of anything with its CRC32 behind it.
	crcResidue = 0x2144df1c
)

// bridges are, by how many bytes of a packet stand before its event, the 4 bytes that behind as many
// zeros take the register from where a right checksum leaves it to where a CRC32 begins. One byte
// does, and more with semi-synchronous replication.
var bridges = [...]uint32{1: 0xabfbfd80, 1 + semiSyncHead: 0xf0b5d5e3}

// sumsHold reports whether the checksum of the event in b is known to be right. b is what next
// has returned last, and the event stands behind skip bytes of it. If it is not known, it is for
// the caller to compute it, as with an event that stands alone.
func (p *packets) sumsHold(b []byte, skip int) bool {
	if p.r <= p.summed {
		return p.sound
	}
	if len(b) >= maxPacket || !hasSum(b, skip) {
		return false // it may be in p.long
	}
	start, end := p.r-len(b)+skip, p.r
	var heads [mostRunEvents]int
	var saved [mostRunEvents]uint64
	n := 0
	for n < len(heads) && p.w-end >= 4 {
		next := p.buf[end:p.w]
		size := int(binary.LittleEndian.Uint32(next) & maxPacket)
		if 4+size > len(next) || end+4+size-start > mostRun || !hasSum(next[4:4+size], skip) {
			break
		}
		heads[n] = end
		n++
		end += 4 + size
	}
	if n == 0 {
		return false
	}
	between := uint64(bridges[skip]) << (8 * skip)
	mask := uint64(1)<<(8*(4+skip)) - 1
	for i, at := range heads[:n] {
		saved[i] = binary.LittleEndian.Uint64(p.buf[at:])
		binary.LittleEndian.PutUint64(p.buf[at:], saved[i]&^mask|between)
	}
	p.summed, p.sound = end, crc32.ChecksumIEEE(p.buf[start:end]) == crcResidue
	for i, at := range heads[:n] {
		binary.LittleEndian.PutUint64(p.buf[at:], saved[i])
	}
	return p.sound
}

// hasSum reports whether what a packet holds is an event behind skip bytes, and of a kind that
// always ends with a checksum: see checkEvent.
func hasSum(b []byte, skip int) bool {
	if len(b) < skip+headerLen+4 || b[0] != 0 || skip > 1 && b[1] != semiSyncMagic {
		return false
	}
	switch event(b[skip:]).kind() {
	case evFormat, evRotate, evHeartbeat, evHeartbeat2:
		return false
	}
	return true
}
