package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/lb"
)

// ruleFiles are what the files hold that a service's rules of requests name, by their paths.
// They are read when a configuration is prepared, and not again: what was found good is what
// comes into force.
type ruleFiles map[string][]byte

// newRuleFiles reads the files.
func newRuleFiles(c config.Service) (ruleFiles, error) {
	if c.Mode != "http" {
		return nil, nil
	}
	files := make(ruleFiles)
	h := c.HTTP.HandlerConfig
	h.Routes = c.HTTPRoutes(func(string) *lb.Pool { return nil })
	var failed error // which names the file; that of ReadFiles names fields of the library
	if _, err := h.ReadFiles(func(path string) ([]byte, error) {
		data, err := config.ReadFile(path)
		if err == nil && len(data) > lb.MaxRuleFile {
			err = fmt.Errorf("%s: larger than %d MiB", path, lb.MaxRuleFile>>20)
		}
		if files[path] = data; err != nil {
			failed = errors.Join(failed, err)
		}
		return data, err
	}); err != nil {
		return nil, fmt.Errorf("http: %w", cmp.Or(failed, err))
	}
	return files, nil
}

// fill returns a configuration with what the files hold.
func (f ruleFiles) fill(h lb.HandlerConfig) lb.HandlerConfig {
	if f == nil {
		return h
	}
	h, _ = h.ReadFiles(func(path string) ([]byte, error) { // all have been read
		if data, ok := f[path]; ok {
			return data, nil
		}
		return nil, os.ErrNotExist
	})
	return h
}
