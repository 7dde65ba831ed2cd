package monitor

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/stretchr/testify/require"
)

func TestActionsOutliveTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "actions")
	l := newLab(t, &Options{Audit: path})
	status, body := l.call(t, "POST", "/api/pipelines/shop/pause", `{"why": "looking, `+secret+`"}`)
	require.Equal(t, http.StatusOK, status, body)
	status, _ = l.call(t, "POST", "/api/pipelines/shop/skip", `{}`)
	require.Equal(t, http.StatusBadRequest, status)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(string(b), "\n"))
	require.NotContains(t, string(b), secret)
	require.Contains(t, string(b), "no transaction is named", "what was refused is there too")
	// The process ends within a line.
	require.NoError(t, os.WriteFile(path, append(b, `{"time": "20`...), 0o600))

	again := newLab(t, &Options{Audit: path})
	_, body = again.call(t, "GET", "/api/audit", "")
	require.Contains(t, body, `"action":"pause"`)
	require.Equal(t, 2, strings.Count(body, `"pipeline":"shop"`))
	again.call(t, "POST", "/api/pipelines/shop/resume", `{}`)
	b, err = os.ReadFile(path)
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	require.Len(t, lines, 4)
	require.Contains(t, lines[3], `"action":"resume"`)
	list, err := ReadAudit(path, 0)
	require.NoError(t, err)
	require.Len(t, list, 3, "the line that was cut off is none")
	last, err := ReadAudit(path, 2)
	require.NoError(t, err)
	require.Equal(t, list[1:], last)
	_, err = ReadAudit(path+"x", 0)
	require.Error(t, err)
	_, err = Open(nil, &Options{Audit: path})
	require.Error(t, err)
	require.NoError(t, again.h.audit.close())
	require.NoError(t, again.h.audit.close())
}

func TestAFileOfActionsMustBeThere(t *testing.T) {
	l := newLab(t, nil)
	_, err := Open(map[string]*dfs.Pipeline{"x": l.p}, &Options{Audit: filepath.Join(t.TempDir(), "none", "actions")})
	require.ErrorContains(t, err, "make its folder first")
}
