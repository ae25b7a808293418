package report

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// findServices finds what keeps the services of the address from answering. Only the host
// that has the address is asked.
func (x *explainer) findServices() (list []finding) {
	if !x.r.Held {
		return nil
	}
	for i := range x.s.Services {
		v := &x.s.Services[i]
		if !x.listensHere(v) {
			continue
		}
		if !v.Serving {
			list = append(list, x.notServing(v))
			continue
		}
		if v.Maintenance {
			list = append(list, finding{
				text: fmt.Sprintf("But service %s is in maintenance: requests get 503 instead of a backend.", v.Name),
				next: []string{fmt.Sprintf("havip maintenance --service %s off ends it; the key is http.maintenance of service %s in %s", v.Name, v.Name, x.file())},
			})
		}
		for j := range v.Pools {
			if f, ok := x.noBackend(v, &v.Pools[j]); ok {
				list = append(list, f)
			}
		}
	}
	return list
}

// listensHere reports whether a service answers at the address.
func (x *explainer) listensHere(v *Service) bool {
	host, _, err := net.SplitHostPort(v.Listen)
	if err != nil || host == "" {
		return err == nil
	}
	a, err := netip.ParseAddr(host)
	return err == nil && (a.IsUnspecified() || a.String() == x.addr)
}

func (x *explainer) notServing(v *Service) finding {
	why := "it is about to begin"
	if v.Problem != "" {
		why = plainError(v.Problem, x.r)
	}
	f := finding{text: fmt.Sprintf("But nothing answers there: service %s does not listen on %s: %s.", v.Name, v.Listen, why)}
	_, port, _ := net.SplitHostPort(v.Listen)
	if strings.Contains(why, "address already in use") {
		f.next = append(f.next, fmt.Sprintf("ss -lntup 'sport = :%s' shows who has the port", port))
	}
	f.next = append(f.next, fmt.Sprintf("havip events --kind service; the key is listen of service %s in %s", v.Name, x.file()))
	return f
}

// maxNamed is how many backends a sentence names.
const maxNamed = 3

// noBackend is about a pool that gives connections to nobody.
func (x *explainer) noBackend(v *Service, p *Pool) (f finding, ok bool) {
	if p.works() {
		return f, false
	}
	where := "service " + v.Name
	if p.Route != "" {
		where += ", route " + p.Route + ","
	}
	f.text = fmt.Sprintf("But %s has no working backend%s.", where, why(p))
	var named []string
	for _, b := range p.Backends {
		if len(named) == maxNamed {
			named = append(named, fmt.Sprintf("%d more", len(p.Backends)-maxNamed))
			break
		}
		text := b.Name + " is " + b.State
		if !b.Since.IsZero() {
			text += fmt.Sprintf(" since %s", x.at(b.Since))
		}
		if b.Error != "" {
			found := strings.TrimPrefix(b.Error, "healthcheck: ")
			f.next = append(f.next, fmt.Sprintf("try from this host what the check does, with nc or curl: %s", found))
			found = strings.TrimPrefix(found, "tcp "+b.Name+": ")
			text += " (" + found + ")"
		}
		named = append(named, text)
	}
	if len(named) > 0 {
		// The first error belongs to the cause.
		f.text = fmt.Sprintf("But %s has no working backend%s: %s.", where, why(p), joined(named))
	}
	f.next = f.next[:min(len(f.next), 1)]
	f.next = append(f.next, fmt.Sprintf("havip status %s shows all of its backends", v.Name))
	return f, true
}
