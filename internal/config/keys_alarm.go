package config

import "github.com/havip/havip/internal/alarm"

func (a *Alarm) value() value { return object(a.keys()).position(&a.Pos) }

// keys are those of a receiver.
func (a *Alarm) keys() []key {
	webhook := required("webhook", secret(&a.Webhook), "https://hooks.example.org/xyz",
		"URL that gets a POST; file:PATH and env:NAME keep it out of here; redirects to other hosts are not followed").secret()
	webhook.unless = []string{"email"}
	kind := func(s *string) value { return word(s, alarm.Kinds...) }
	return owned([]key{
		required("name", name(&a.Name), "ops", "in the log; with another name it is another receiver, which hears again of what lasts"),
		webhook,
		setting("format", choice(&a.Format),
			"of the webhook: json: havip's own; slack: an incoming webhook of Slack, Mattermost and the like; alertmanager: Prometheus', whose address is enough"),
		optional("token", secret(&a.Token), "0123456789abcdef", "of the webhook, sent as Authorization: Bearer TOKEN; default: none").secret(),
		optional("proxy", plain(&a.Proxy), `"http://proxy.example.org:3128"`, "of the webhook; default: none, whatever the environment says").secret(),
		optional("email", object(a.emailKeys()), "", "in place of a webhook: mail; what happens within some seconds is one message"),
		optional("ca", absolutePath(&a.CA), "/etc/havip/ca.pem", "who signs the server's certificate; default: whom the system trusts"),
		setting("on", list(&a.On, kind), "kinds of events that are told"),
		setting("repeat", off(duration(&a.Repeat)), "after which what lasts is told again; 0s: never; alertmanager is told every minute"),
		setting("timeout", duration(&a.Timeout), "of each attempt to deliver"),
		setting("give_up", duration(&a.GiveUp), "age at which what could not be delivered is given up"),
	}, homeOf(&a.Receiver), inside(a))
}

func (a *Alarm) emailKeys() []key {
	e := &a.Email
	recipient := func(s *string) value { return text(s, "an address, such as ops@example.org", anyText) }
	return owned([]key{
		required("server", plain(&e.Server), `"smtp.example.org:587"`, "host:port that takes mail for the recipients"),
		required("from", plain(&e.From), "havip@example.org", "sender"),
		required("to", list(&e.To, recipient), "[ops@example.org]", "recipients, each of whom gets a message"),
		optional("user", plain(&e.User), "havip", "by which havip logs in; default: it does not"),
		optional("password", secret(&a.Password), "0123456789abcdef", "of the user; never sent without encryption").secret(),
		setting("tls", choice(&e.TLS), "starttls: the server must offer it; tls: from the first byte, as on port 465"),
	}, homeOf(&a.Receiver), inside(a))
}
