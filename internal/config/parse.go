package config

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxSize bounds the size of a configuration file, in bytes.
const maxSize = 4 << 20

// Load reads, decodes and validates a configuration file and the secrets that
// it names. The error is the system's if the file cannot be read, and Errors if
// it is wrong.
func Load(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	return Parse(path, data)
}

// Parse decodes and validates a configuration. The name stands for the file in
// messages, and the files of secrets are looked for beside it. The error is
// Errors. If nothing is wrong but with files of certificates and keys, the
// configuration is returned as well: these may come later, and what does not need
// them can do without.
func Parse(name string, data []byte) (*Config, error) {
	return newDecoder(name).parse(data)
}

func newDecoder(name string) *decoder {
	names.once.Do(readNames)
	return &decoder{
		file: name, read: ReadFile,
		at: make(map[string]Position), covered: make(map[*yaml.Node]bool), long: make(map[*yaml.Node]bool), hidden: make(map[string]string),
		wrong: make(map[string]bool), checks: make(map[string]*Check), used: make(map[string]bool),
	}
}

func (d *decoder) parse(data []byte) (*Config, error) {
	c := new(Config)
	if root := d.document(data); root != nil {
		d.decode(object(c.keys()), root, "")
		d.validate(c)
	}
	c.Warnings = sorted(d.warnings)
	c.file, c.at = d.file, d.at
	if len(d.problems) == 0 {
		return c, nil
	}
	problems := sorted(d.problems[:min(len(d.problems), maxProblems)])
	if d.full() {
		problems = append(problems, Problem{Pos: problems[len(problems)-1].Pos, Text: "and more: fix these first"})
	}
	if len(d.problems) > d.ofFiles {
		c = nil
	}
	return c, Errors(problems)
}

// document returns the root of the only YAML document in data, or complains.
func (d *decoder) document(data []byte) *yaml.Node {
	// Windows editors put it there; the columns of the first line count
	// without it.
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if len(data) > maxSize {
		d.fail("", "larger than %d MiB: not a configuration file?", maxSize>>20)
		return nil
	}
	if !utf8.Valid(data) {
		d.failAt(d.firstBad(data), "", "not UTF-8: save the file in that encoding")
		return nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	err := decode(decoder, &doc)
	empty := err == io.EOF || err == nil && (len(doc.Content) != 1 || doc.Content[0].ShortTag() == "!!null")
	if err == nil && !empty {
		err = decode(decoder, &second)
	}
	switch {
	case empty:
		d.fail("", "the file is empty: add vrrp, services or both")
	case err == nil:
		d.failAt(d.position(&second), "", "a second document: remove the --- above it")
	case err != io.EOF:
		d.syntax(data, err)
	default:
		d.cover(doc.Content[0], data)
		return doc.Content[0]
	}
	return nil
}

// decode is Decode. A mistake in the library's parser must not end a daemon that
// is asked to reload a file.
func decode(from *yaml.Decoder, to *yaml.Node) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("yaml: %v", p)
		}
	}()
	return from.Decode(to)
}

var (
	yamlLine  = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`)
	tabIndent = regexp.MustCompile(`(?m)^ *\t[\t ]*[^\s#]`)
)

// syntax reports what the YAML library says.
func (d *decoder) syntax(data []byte, err error) {
	// What the library says of a tab; elsewhere, as in a block of text, tabs are
	// allowed.
	aboutTab := strings.Contains(err.Error(), "tab character") || strings.Contains(err.Error(), "cannot start any token")
	if tab := tabIndent.FindIndex(data); tab != nil && aboutTab {
		d.failAt(d.offset(data, tab[0]+bytes.IndexByte(data[tab[0]:], '\t')), "", "a tab: YAML wants spaces for indentation")
		return
	}
	m := yamlLine.FindStringSubmatch(err.Error())
	pos := Position{d.file, 1, 1}
	if n, err := strconv.Atoi(m[1]); err == nil {
		pos.Line = n
	}
	// The library's line is often that of something around the mistake, and
	// off by one. The mistake is behind the last line up to which all is well.
	if lines := bytes.SplitAfter(data, []byte("\n")); len(lines) <= maxRetries {
		for n := len(lines) - 1; n >= 0; n-- {
			good := bytes.Join(lines[:n], nil)
			if err := decode(yaml.NewDecoder(bytes.NewReader(good)), new(yaml.Node)); err == nil || err == io.EOF {
				indent := len(lines[n]) - len(bytes.TrimLeft(lines[n], " "))
				pos.Line, pos.Column = n+1, indent+1
				break
			}
		}
	}
	d.failAt(pos, "", "not YAML from here on: %s", syntaxReason(m[2]))
}

// maxRetries is for how many lines it pays to look for the one with a mistake.
const maxRetries = 500

// firstBad is where data stops being UTF-8.
func (d *decoder) firstBad(data []byte) Position {
	at := 0
	for {
		r, n := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && n <= 1 {
			return d.offset(data, at)
		}
		at += n
	}
}

// offset is the position of a byte.
func (d *decoder) offset(data []byte, at int) Position {
	before := data[:at]
	line := before[bytes.LastIndexByte(before, '\n')+1:]
	return Position{d.file, 1 + bytes.Count(before, []byte("\n")), 1 + utf8.RuneCount(line)}
}
