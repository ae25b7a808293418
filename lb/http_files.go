package lb

import (
	"errors"
	"fmt"
	"slices"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/internal/regular"
)

// MaxRuleFile bounds the files that [HandlerConfig.ReadFiles] reads, in bytes.
const MaxRuleFile = 1 << 20

// ReadFiles returns c with what is in the files that its Rules name, and those of its Routes:
// the Content of pages, and Users. c stays as it is. read reads a file; nil: those of ordinary kind, up
// to [MaxRuleFile]. The error tells all that cannot be used: FieldErrors, joined.
func (c HandlerConfig) ReadFiles(read func(path string) ([]byte, error)) (HandlerConfig, error) {
	if read == nil {
		read = readRuleFile
	}
	f := ruleFiles{read: read}
	f.fill(&c.Rules, "")
	c.Routes = slices.Clone(c.Routes)
	for i := range c.Routes {
		f.fill(&c.Routes[i].Rules, fmt.Sprintf("Routes[%d].", i))
	}
	return c, f.err()
}

// readRuleFile reads a file that Rules name.
func readRuleFile(path string) ([]byte, error) {
	data, err := regular.Read(path, MaxRuleFile+1)
	if err == nil && len(data) > MaxRuleFile {
		err = fmt.Errorf("%s: more than %d bytes: want a smaller file", path, MaxRuleFile)
	}
	return data, err
}

// ruleFiles reads the files of Rules.
type ruleFiles struct {
	read func(path string) ([]byte, error)
	errs []error
}

func (f *ruleFiles) err() error { return errors.Join(f.errs...) }

// fill fills in what files hold. at is where r is, in errors.
func (f *ruleFiles) fill(r *Rules, at string) {
	r.Auth = f.users(r.Auth, at+"Auth")
	r.Sorry = f.page(r.Sorry, at+"Sorry")
	r.MaintenancePage = f.page(r.MaintenancePage, at+"MaintenancePage")
	r.ErrorPages = slices.Clone(r.ErrorPages)
	for i := range r.ErrorPages {
		p := &r.ErrorPages[i]
		p.Page = *f.page(&p.Page, fmt.Sprintf("%sErrorPages[%d]", at, i))
	}
}

// page returns a copy of p with its content.
func (f *ruleFiles) page(p *Page, at string) *Page {
	if p == nil || p.File == "" {
		return p
	}
	filled := *p
	data, err := f.read(p.File)
	if err != nil {
		f.errs = append(f.errs, field.Errorf(at+".File", "%w", err))
		return p
	}
	filled.Content = append([]byte{}, data...) // not nil: it was read
	return &filled
}

// users returns a copy of a with its users.
func (f *ruleFiles) users(a *BasicAuth, at string) *BasicAuth {
	if a == nil || a.File == "" {
		return a
	}
	filled := *a
	data, err := f.read(a.File)
	if err == nil {
		if filled.Users, err = ParseHtpasswd(data); err != nil {
			err = fmt.Errorf("%s: %w", a.File, err)
		}
	}
	if err != nil {
		f.errs = append(f.errs, field.Errorf(at+".File", "%w", err))
		return a
	}
	return &filled
}
