package lb

import (
	"errors"
	"slices"

	"github.com/havip/havip/internal/field"
)

func validateHashKey(value string) error {
	t, err := compileTemplate(value, inKeys)
	constant := value != "" && !slices.ContainsFunc(t, func(p piece) bool { return p.text != nil })
	return field.In("HashKey", errors.Join(err, field.If(err == nil && constant, "",
		"%q: all requests have it: want a variable, such as ${cookie_session} or ${arg_id}", value)))
}

// configuredKey returns the key of HashKey. Where the request has nothing of it, that is the
// client's address: one backend would have all these clients otherwise.
func (x *exchange) configuredKey() string {
	t := x.cfg.hashKey
	start := len(x.text)
	var said bool
	for i := range t {
		if t[i].text != nil {
			before := len(x.text)
			x.text = t[i].text(x, x.text)
			said = said || len(x.text) > before
			continue
		}
		x.text = append(x.text, t[i].literal...)
	}
	if !said {
		x.text = appendAddr(x.text[:start], x.client.Addr())
	}
	return x.written(start)
}
