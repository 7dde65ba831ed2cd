//go:build !race

package faultvfs

const slower = 1
