//go:build linux

package main

import (
	"encoding/xml"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// svg is what the tests look at of a chart.
type svg struct {
	ViewBox string `xml:"viewBox,attr"`
	Title   string `xml:"title"`
	Style   string `xml:"style"`
	Rects   []struct {
		Class  string  `xml:"class,attr"`
		X      float64 `xml:"x,attr"`
		Y      float64 `xml:"y,attr"`
		Width  float64 `xml:"width,attr"`
		Height float64 `xml:"height,attr"`
	} `xml:"rect"`
	Texts []struct {
		Class  string  `xml:"class,attr"`
		Anchor string  `xml:"text-anchor,attr"`
		X      float64 `xml:"x,attr"`
		Y      float64 `xml:"y,attr"`
		Text   string  `xml:",chardata"`
	} `xml:"text"`
}

// The bars are as long as the figures are great, stand apart, and have their names and
// figures beside them, within the picture.
func TestChartShowsTheFigures(t *testing.T) {
	r := sampleReport()
	r.Backlogs[0].Lines[1].Title = "replica | <other>"
	r.Backlogs[0].Lines = r.Backlogs[0].Lines[:2]
	r.Backlogs = append(r.Backlogs, &result{Name: "hot", Rows: 1000, Durability: strict, Lines: []*line{{Name: "dfs", Title: "DFS, end to end", Samples: runs(1)}}})
	var c svg
	require.NoError(t, xml.Unmarshal(r.chart(), &c))
	box := strings.Fields(c.ViewBox)
	width, _ := strconv.ParseFloat(box[2], 64)
	height, _ := strconv.ParseFloat(box[3], 64)

	// DFS did 20,000 rows/s and the replica 2,500. Of "hot" there is nobody to compare with.
	require.Len(t, c.Rects, 2)
	require.InDelta(t, 8, c.Rects[0].Width/c.Rects[1].Width, 0.1)
	require.Equal(t, "own", c.Rects[0].Class)
	require.Equal(t, "peer", c.Rects[1].Class)
	require.Greater(t, c.Rects[1].Y, c.Rects[0].Y+c.Rects[0].Height)
	var all []string
	for _, s := range c.Texts {
		all = append(all, s.Text)
		length := 6.5 * float64(len(s.Text)) // such a font needs about 6, and more if it is bold
		if strings.Contains(s.Class, "b") {
			length = 7.2 * float64(len(s.Text))
		}
		from, to := s.X, s.X+length
		if s.Anchor == "end" {
			from, to = s.X-length, s.X
		}
		require.GreaterOrEqual(t, from, 0.0, s.Text)
		require.LessOrEqual(t, to, width, s.Text)
		require.LessOrEqual(t, s.Y, height, s.Text)
	}
	for _, name := range shortNames {
		require.LessOrEqual(t, 7.2*float64(len(name[1])), chartLeft-12.0, "the name %q is too long", name[1])
	}
	for _, want := range []string{"single-row transactions", "durability 1/1", "20,000 DFS", "2,500 replica | <other>"} {
		require.Contains(t, all, want)
	}
	require.NotContains(t, all, "updates of 100 hot rows")
}

// Text has the contrast that WCAG 2.1 wants of it (1.4.3) on light and on dark pages,
// and so have bars (1.4.11).
func TestChartIsReadableOnLightAndDark(t *testing.T) {
	css := string(sampleReport().chart())
	before, after, ok := strings.Cut(css, "@media (prefers-color-scheme:dark){")
	require.True(t, ok)
	for _, c := range []struct {
		css  string
		want theme
	}{{before, light}, {after, dark}} {
		for class, want := range map[string]struct {
			color string
			least float64
		}{"t": {c.want.text, 4.5}, "m": {c.want.muted, 4.5}, "own": {c.want.own, 3}, "peer": {c.want.peer, 3}} {
			got := regexp.MustCompile(`\.` + class + `\{fill:(#[0-9a-f]{6})\}`).FindStringSubmatch(c.css)
			require.NotNil(t, got, class)
			require.Equal(t, want.color, got[1])
			require.GreaterOrEqual(t, contrast(got[1], c.want.background), want.least, "%s on %s", got[1], c.want.background)
		}
	}
}

// contrast returns the contrast ratio of two colours by WCAG's definition.
func contrast(a, b string) float64 {
	luminance := func(s string) float64 {
		n, _ := strconv.ParseUint(s[1:], 16, 32)
		var sum float64
		for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
			v := float64(n>>(16-8*i)&0xff) / 255
			if v <= 0.03928 {
				v /= 12.92
			} else {
				v = math.Pow((v+0.055)/1.055, 2.4)
			}
			sum += weight * v
		}
		return sum
	}
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}
