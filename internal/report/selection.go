package report

import (
	"fmt"
	"slices"
	"strings"
)

// Select returns the part of a status that has one of the names: a router, the routers of
// a group, a check, or a service. With a router come the checks that it tracks, and with a
// check the routers that track it. The node itself stays. No name selects all. The error
// is ErrUnknown.
func (s *Status) Select(names ...string) (*Status, error) {
	if len(names) == 0 {
		return s, nil
	}
	for _, name := range names {
		if known := s.Names(); !slices.Contains(known, name) {
			return nil, Unknown("router, group, check or service", name, known)
		}
	}
	has := func(name string) bool { return slices.Contains(names, name) }
	part := &Status{Node: s.Node, Routers: []Router{}, Groups: []Group{}, Checks: []Check{}, Services: []Service{}}
	for _, r := range s.Routers {
		tracks := slices.ContainsFunc(r.Tracks, func(t Track) bool { return has(t.Check) })
		if has(r.Name) || r.Group != "" && has(r.Group) || tracks {
			part.Routers = append(part.Routers, r)
		}
	}
	for _, g := range s.Groups {
		if has(g.Name) {
			part.Groups = append(part.Groups, g)
		}
	}
	for _, c := range s.Checks {
		if has(c.Name) || slices.ContainsFunc(part.Routers, func(r Router) bool {
			return slices.ContainsFunc(r.Tracks, func(t Track) bool { return t.Check == c.Name })
		}) {
			part.Checks = append(part.Checks, c)
		}
	}
	for _, v := range s.Services {
		if has(v.Name) {
			part.Services = append(part.Services, v)
		}
	}
	part.Problems = part.FindProblems()
	return part, nil
}

// Names are those of the routers, groups, checks and services.
func (s *Status) Names() (list []string) {
	for _, r := range s.Routers {
		list = append(list, r.Name)
	}
	for _, g := range s.Groups {
		list = append(list, g.Name)
	}
	for _, c := range s.Checks {
		list = append(list, c.Name)
	}
	for _, v := range s.Services {
		list = append(list, v.Name)
	}
	return list
}

// unknownError is ErrUnknown in words of its own.
type unknownError string

func (e unknownError) Error() string        { return string(e) }
func (e unknownError) Is(target error) bool { return target == ErrUnknown }

// Unknown is the error of a name that no part of a kind has, with the names that there are.
// It is ErrUnknown.
func Unknown(kind, name string, known []string) error {
	return unknownError(fmt.Sprintf("no %s is called %q: %s", kind, name, listed(known)))
}

// listed says which names there are, twenty at most.
func listed(names []string) string {
	switch {
	case len(names) == 0:
		return "there is none"
	case len(names) == 1:
		return "there is only " + names[0]
	case len(names) > 20:
		return fmt.Sprintf("there are %s and %d more", strings.Join(names[:20], ", "), len(names)-20)
	}
	return "there are " + strings.Join(names, ", ")
}

// Router returns the router of a name. The error is ErrUnknown, with the names that exist.
func (s *Status) Router(name string) (Router, error) {
	var known []string
	for _, r := range s.Routers {
		if r.Name == name {
			return r, nil
		}
		known = append(known, r.Name)
	}
	return Router{}, Unknown("router", name, known)
}

// AddressList are the router's addresses, without the lengths of their prefixes.
func (r *Router) AddressList() (list []string) {
	for _, a := range r.Addresses {
		address, _, _ := strings.Cut(a.Address, "/")
		list = append(list, address)
	}
	return list
}

// Sentence says what a check has found.
func (c *Check) Sentence() string {
	text := c.Name + " is " + c.State
	if c.Error != "" {
		return clean(text + ": the latest probe failed: " + c.Error)
	}
	return clean(text + ": the latest probe took " + latency(c.Latency))
}
