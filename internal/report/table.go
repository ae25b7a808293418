package report

import (
	"cmp"
	"slices"
	"strings"
)

// column is one of a table.
type column struct {
	title string
	right bool // for numbers
	// least is the width down to which the column gives way on a narrow screen; 0: it
	// does not.
	least int
	// leave says how early the column is left out on a screen that is too narrow still:
	// the highest first; 0: never.
	leave  int
	middle bool // names are cut in their middle
	// below: on a screen that is too narrow for the whole of it, the text of this column
	// stands below its row.
	below bool
}

// cell is one field. list, if it is set, shows as many of its words as fit.
type cell struct {
	text string
	list []string
	how  look
}

// row is a line of cells, with lines of prose below it. A row with a head is only that:
// a line above those that follow.
type row struct {
	head  string
	cells []cell
	below []remark
}

// remark is prose, which is broken between words rather than cut.
type remark struct {
	mark string // "! " before what is wrong
	text string
	how  look
}

// table is drawn with its columns aligned. A row without cells has only its prose.
type table struct {
	columns []column
	rows    []row
}

// gap separates columns.
const gap = "  "

// draw adds the table's lines to out.
func (t *table) draw(out *strings.Builder, l Layout) {
	t.clean()
	widths := t.widths(l.Width)
	for i, c := range t.columns {
		if c.below && widths[i] < t.natural(i) {
			t.moveBelow(i)
			widths = t.widths(l.Width)
		}
	}
	var head []cell
	for _, c := range t.columns {
		head = append(head, cell{text: c.title, how: title})
	}
	t.drawCells(out, l, widths, head)
	for _, r := range t.rows {
		if r.head != "" {
			head := clean(r.head)
			out.WriteString(shorten(head, cmp.Or(l.Width, columns(head)), true) + "\n")
		}
		if r.cells != nil {
			t.drawCells(out, l, widths, r.cells)
		}
		for _, m := range r.below {
			m.draw(out, l, "  ")
		}
	}
}

// clean makes all cells fit for a terminal.
func (t *table) clean() {
	for _, r := range t.rows {
		for i := range r.cells {
			c := &r.cells[i]
			c.text = clean(c.text)
			for k, word := range c.list {
				if k == 0 {
					c.list = slices.Clone(c.list) // it is the status's own
				}
				c.list[k] = clean(word)
			}
		}
	}
}

// drawCells draws one line. Blanks at its end are left out.
func (t *table) drawCells(out *strings.Builder, l Layout, widths []int, cells []cell) {
	pending := "" // blanks before the next cell
	for i, c := range cells {
		if widths[i] < 0 {
			continue
		}
		text := c.text
		if c.list != nil {
			text = fitList(c.list, widths[i])
		}
		text = shorten(text, widths[i], t.columns[i].middle)
		fill := strings.Repeat(" ", widths[i]-columns(text))
		if t.columns[i].right {
			pending, fill = pending+fill, ""
		}
		if text != "" {
			out.WriteString(pending + l.paint(c.how, text))
			pending = ""
		}
		pending += fill + gap
	}
	out.WriteByte('\n')
}

// draw adds the lines of a remark, all of them in its look.
func (m remark) draw(out *strings.Builder, l Layout, indent string) {
	for _, line := range wrap(indent+m.mark, clean(m.text), l.Width) {
		out.WriteString(l.paint(m.how, line) + "\n")
	}
}

// widths decides on the width of each column; -1: it is left out.
func (t *table) widths(screen int) []int {
	widths := make([]int, len(t.columns))
	for i := range t.columns {
		widths[i] = t.natural(i)
	}
	if screen > 0 {
		t.leaveOut(widths, screen)
		t.giveWay(widths, screen)
	}
	return widths
}

// natural is the width of a column with room for all of it; -1: the column is gone.
func (t *table) natural(i int) int {
	if t.columns[i].title == "" {
		return -1
	}
	width := columns(t.columns[i].title)
	for _, r := range t.rows {
		if r.cells == nil {
			continue
		}
		text := r.cells[i].text
		if list := r.cells[i].list; list != nil {
			text = strings.Join(list, " ")
		}
		width = max(width, columns(text))
	}
	return width
}

// moveBelow makes the text of a column the first line below each row, and the column is
// gone.
func (t *table) moveBelow(i int) {
	name := strings.ToLower(t.columns[i].title)
	t.columns[i].title = ""
	for k := range t.rows {
		r := &t.rows[k]
		if r.cells != nil && r.cells[i].text != "" && r.cells[i].text != "-" {
			r.below = slices.Insert(r.below, 0, remark{"", name + ": " + r.cells[i].text, plain})
		}
	}
}

// leaveOut drops columns until the others fit, as narrow as they may become. After those
// that may go, the last ones go: only the first one stays in any case.
func (t *table) leaveOut(widths []int, screen int) {
	for {
		total, first := 0, 0
		for i, c := range t.columns {
			if widths[i] < 0 {
				continue
			}
			total += t.narrowest(i, widths[i]) + len(gap)
			if c.leave >= t.columns[first].leave {
				first = i
			}
		}
		if total-len(gap) <= screen || first == 0 {
			return
		}
		widths[first] = -1
	}
}

// giveWay narrows the columns that may, the widest first, until all fit.
func (t *table) giveWay(widths []int, screen int) {
	total := -len(gap)
	for _, w := range widths {
		if w >= 0 {
			total += w + len(gap)
		}
	}
	for ; total > screen; total-- {
		widest := -1
		for i, w := range widths {
			if w > t.narrowest(i, w) && (widest < 0 || w > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
	}
}

// narrowest is what a column of a width may become.
func (t *table) narrowest(i, width int) int {
	if c := t.columns[i]; c.least > 0 {
		return min(width, max(c.least, columns(c.title)))
	}
	return width
}
