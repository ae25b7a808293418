package lb

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/havip/havip/internal/field"
)

// Rewrite changes the path that backends get. It works on the path as a Route compares it:
// decoded, without steps. What it makes is encoded again and checked as the target of a client
// is; the query stays. The steps are done in the order of the fields. The zero value changes
// nothing.
type Rewrite struct {
	// StripPrefix is taken from the beginning of paths that begin with it.
	StripPrefix string
	// Regexp is a regular expression. Where it matches a path, the Replacement takes the place
	// of the whole path, as of nginx's rewrite: $1 or ${1} is what the first group has matched,
	// of one digit as there, ${10} the tenth, ${name} a group with a name, and $$ a dollar sign.
	// What stands behind a ? there comes before the query.
	Regexp, Replacement string
	// AddPrefix is put before the path: /v1.
	AddPrefix string
}

func (r Rewrite) validate() error {
	prefix := func(name, value string) error {
		path, _, _ := strings.Cut(value, "?")
		return errors.Join(field.If(value != "" && !strings.HasPrefix(value, "/"), name, "%q: want a path that begins with /", value),
			field.If(hasSteps(path), name, "%q: want a path without the steps . and ..", value))
	}
	errs := []error{prefix("Rewrite.StripPrefix", r.StripPrefix), prefix("Rewrite.AddPrefix", r.AddPrefix), prefix("Rewrite.Replacement", r.Replacement),
		field.If(r.Regexp == "" && r.Replacement != "", "Rewrite.Replacement", "%q: does nothing without Regexp: leave it out", r.Replacement),
		field.If(r.Regexp != "" && r.Replacement == "", "Rewrite.Replacement", "none: want a path that begins with /")}
	re, err := compileRegexp(r.Regexp)
	if errs = append(errs, field.In("Rewrite.Regexp", err)); err == nil {
		errs = append(errs, field.In("Rewrite.Replacement", validateReplacement(re, r.Replacement)))
	}
	return errors.Join(errs...)
}

// validateReplacement returns what is wrong with a Replacement.
func validateReplacement(re *regexp.Regexp, text string) error {
	template, err := expandable(re, text)
	if err != nil {
		return err
	}
	_, query, _ := strings.Cut(template, "?")
	none := make([]int, 2*(re.NumSubexp()+1))
	if query = string(re.ExpandString(nil, query, "", none)); !validTarget("/?" + query) {
		return fmt.Errorf("%q: want no spaces, # or control characters behind the ?: write them with escapes, such as %%20", text)
	}
	return nil
}

// expandable returns a Replacement as [regexp.Regexp.Expand] has it, which takes the longest
// word behind a dollar sign for a name. The error names a group that there is not.
func expandable(re *regexp.Regexp, text string) (string, error) {
	var template strings.Builder
	for rest := text; rest != ""; {
		at := strings.IndexByte(rest, '$')
		if at < 0 {
			template.WriteString(rest)
			break
		}
		template.WriteString(rest[:at])
		written := groupReference.FindString(rest[at:])
		rest = rest[at+max(len(written), 1):]
		name := strings.Trim(written, "${}")
		n, err := strconv.Atoi(name)
		switch {
		case written == "", written == "$$":
			template.WriteString("$$")
		case err == nil && n <= re.NumSubexp(), re.SubexpIndex(name) > 0:
			template.WriteString("${" + name + "}")
		case ofNginx(name) != "" || nginxLeftOut[name] != "":
			return "", fmt.Errorf("%q: want groups of the expression alone, not variables: the query stays anyway; $$ is a dollar sign", written)
		default:
			return "", fmt.Errorf("%q: no such group in the expression, which has %d: want $1 or ${name}, or $$ for a dollar sign", written, re.NumSubexp())
		}
	}
	return template.String(), nil
}

// groupReference is what stands for a group, or for a dollar sign.
var groupReference = regexp.MustCompile(`^(\$\$|\$\{[^}]*\}?|\$[0-9]|\$\w+)`)

// rewriteRule is a Rewrite that is ready for use.
type rewriteRule struct {
	strip, add  string
	re          *regexp.Regexp // nil: none
	path, query string         // of the Replacement
}

func newRewriteRule(r Rewrite) *rewriteRule {
	if r == (Rewrite{}) {
		return nil
	}
	rule := &rewriteRule{strip: r.StripPrefix, add: r.AddPrefix}
	if r.Regexp != "" {
		rule.re, _ = compileRegexp(r.Regexp)              // valid
		template, _ := expandable(rule.re, r.Replacement) // valid
		rule.path, rule.query, _ = strings.Cut(template, "?")
	}
	return rule
}

// rewrite changes x.target; false: what comes out is no target, or has steps.
func (x *exchange) rewrite(r *rewriteRule) bool {
	if x.target == "*" {
		return true // of a server, not of a path
	}
	path, query := x.path, ""
	if rest, ok := strings.CutPrefix(path, r.strip); ok {
		path = rest
	}
	if r.re != nil {
		if at := r.re.FindStringSubmatchIndex(path); at != nil {
			from := path
			path = string(r.re.ExpandString(nil, r.path, from, at))
			query = expandQuery(r.re, r.query, from, at)
		}
	}
	if path = r.add + path; !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	_, asked, queried := strings.Cut(x.target, "?")
	start := len(x.text)
	x.text = appendEscapedPath(x.text, path)
	switch {
	case query != "" && asked != "":
		x.text = append(append(append(append(x.text, '?'), query...), '&'), asked...)
	case query != "":
		x.text = append(append(x.text, '?'), query...)
	case queried:
		x.text = append(append(x.text, '?'), asked...)
	}
	x.target = x.written(start)
	// A prefix that is cut off in the middle of a step, or a group, may make other steps: of
	// /static../x without /static, for instance. They would lead out of what the rule adds.
	return !hasSteps(path) && validTarget(x.target) && x.readPath()
}

// hasSteps reports whether a decoded path has a step . or .. in it.
func hasSteps(path string) bool {
	if !strings.Contains(path, "/.") {
		return false
	}
	for step := range strings.SplitSeq(path, "/") {
		if step == "." || step == ".." {
			return true
		}
	}
	return false
}

// expandQuery expands the query of a Replacement. What a group has matched cannot end an
// argument.
func expandQuery(re *regexp.Regexp, query, path string, at []int) string {
	if query == "" {
		return ""
	}
	// The groups are expanded one by one, in a path that is made of their escaped texts.
	var text strings.Builder
	escaped := make([]int, len(at))
	for i := 0; i < len(at); i += 2 {
		if at[i] < 0 {
			escaped[i], escaped[i+1] = -1, -1
			continue
		}
		escaped[i] = text.Len()
		text.Write(appendEscapedArgument(nil, path[at[i]:at[i+1]]))
		escaped[i+1] = text.Len()
	}
	return string(re.ExpandString(nil, query, text.String(), escaped))
}

// appendEscapedArgument appends a text as it stands in an argument of a query.
func appendEscapedArgument(b []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; alphanumeric(c) || strings.IndexByte("-._~", c) >= 0 {
			b = append(b, c)
		} else {
			b = append(b, '%', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return b
}
