package config

import (
	"regexp"
	"time"
)

// later lists the keys that are foreseen while no package does anything with them: a key
// without effect would be a lie, so it is refused. When the implementation comes the key
// gets its row below, and its line goes.
var later = []string{
	"services[].dataplane",
}

func (c *Config) keys() []key {
	return []key{
		preset("log", object([]key{
			preset("level", word(&c.Log.Level, "debug", "info", "warn", "error"), "info", ""),
			preset("format", word(&c.Log.Format, "text", "json"), "text", ""),
		}), "{}", "what is logged, to standard error"),
		preset("admin", object(c.Admin.keys()), "{}", "how a running havip is asked and steered"),
		optional("checks", checks(&c.Checks), "", "health checks, by name"),
		optional("vrrp", list(&c.VRRP, (*Router).value), "", "virtual routers"),
		optional("groups", list(&c.Groups, (*Group).value), "", "routers that move together"),
		optional("alarms", list(&c.Alarms, (*Alarm).value), "", "who is told of what happens, by webhook or e-mail"),
		optional("services", list(&c.Services, (*Service).value), "", "what is balanced over backends"),
	}
}

var userForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$`)

// notifyKeys are those of routers and of groups.
func notifyKeys(l *Listeners) []key {
	return []key{
		optional("notify", list(&l.Notify, (*Notify).value), "[/etc/havip/notify.sh]",
			"programs to run on a change of state, with Keepalived's arguments; one with arguments is a list of its own, or a mapping as below; "+
				"each hears of all changes in their order; of havip's environment it gets PATH, locale and time zone"),
		optional("notify_user", text(&l.NotifyUser, "user, or user:group", userForm.MatchString), "nobody",
			"who they run as; default: the user of havip; root runs only what nobody else can change"),
		optional("notify_fifo", absolutePath(&l.NotifyFIFO), "/run/havip/notify",
			"FIFO that gets a line for each change of state, in Keepalived's form; made if it is not there"),
		preset("notify_timeout", within(duration(&l.NotifyTimeout), 10*time.Millisecond, time.Hour), "30s", "for one program; then it is killed"),
	}
}

// value is a mapping, or the command alone.
func (p *Notify) value() value {
	state := func(s *string) value { return word(s, "master", "backup", "fault", "stop") }
	return orAlone([]key{
		required("command", command(&p.Command), "[/etc/havip/notify.sh]", "program and arguments; no shell"),
		optional("on", list(&p.On, state), "[master, fault]",
			"states that it is run for, without further arguments; default: all, with Keepalived's arguments"),
	})
}

func (t *Track) value() value {
	return object([]key{
		required("check", name(&t.Check), "tcp", "name under checks"),
		optional("weight", within(integer(&t.Weight), -253, 253), "-20",
			"negative: added to the priority while down; positive: while up; default: a failure releases the addresses"),
		preset("mode", word(&t.Mode, "priority", "resign"), "priority",
			"of a weight with preempt: false: resign hands over when the priority falls below a peer's last one, or that is not known; "+
				"a peer that comes back later is silent and changes nothing"),
	})
}

func (g *Group) value() value {
	return object(append([]key{
		required("name", name(&g.Name), "G1", "in logs, metrics and scripts"),
		required("routers", list(&g.Routers, name), "[VI_1]", "names under vrrp"),
	}, notifyKeys(&g.Listeners)...)).position(&g.Pos)
}
