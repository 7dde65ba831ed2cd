//go:build !unix

package main

import (
	"context"
	"errors"
	"io"
)

func try(context.Context, io.Writer) error {
	return errors.New("name a source, tables and a target: servers are started on Unix only")
}
