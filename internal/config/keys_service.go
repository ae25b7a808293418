package config

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/lb"
)

func (s *Service) value() value { return object(s.keys()).position(&s.Pos) }

func (s *Service) keys() []key {
	backends := required("backends", list(&s.Pool.Backends, backend), "[192.168.31.242:8080]", "servers: host:port, or a mapping as below; none are needed beside routes, nor in mode http where http.redirect, answer or maintenance answers all requests")
	backends.unless = []string{"routes", "http"} // see validateAnswered
	return owned([]key{
		required("name", name(&s.Name), "web", "in logs and metrics"),
		required("listen", listenAddress(&s.Listen), `":8080"`, "address and port; no address: all"),
		preset("mode", word(&s.Mode, "http", "tcp", "udp"), "http", "what is balanced: requests, connections or sessions of datagrams"),
		setting("balance", choice(&s.Pool.Balance), "how backends are chosen; key-hash: by the path, mode http only"),
		backends,
		optional("check", serviceCheck(&s.Check), "{type: http, path: /, interval: 2s}",
			"of each backend: the name of a check without address and url, or a mapping with its keys; default: none"),
		optional("routes", list(&s.Routes, (*ServiceRoute).value), "",
			"requests to other backends, or by other rules; in mode tcp TLS connections to other backends, by server name (SNI), which stay encrypted without tls; "+
				"no backends above: others are refused").in("http", "tcp"),
		preset("pool", object(poolKeys(&s.Pool)), "{}", "how backends are used; those of routes as well, unless these say otherwise"),
		setting("connect_timeout", duration(&s.TCP.ConnectTimeout).also(&s.HTTP.ConnectTimeout), "for each attempt to reach a backend").in("http", "tcp"),
		setting("handshake_timeout", duration(&s.TCP.HandshakeTimeout),
			"for what comes before the backend is chosen: PROXY header, server name, TLS handshake").in("tcp"),
		optional("idle_timeout", duration(&s.TCP.IdleTimeout).also(&s.UDP.IdleTimeout, &s.HTTP.IdleTimeout), "10m",
			fmt.Sprintf("without anything from either side; default: %s between requests, %s in mode tcp, %s in mode udp",
				field.Span(lb.HTTPConfig{}.WithDefaults().IdleTimeout), field.Span(lb.TCPConfig{}.WithDefaults().IdleTimeout),
				field.Span(lb.UDPConfig{}.WithDefaults().IdleTimeout))),
		setting("shutdown_timeout", off(duration(&s.TCP.ShutdownTimeout)).also(&s.HTTP.ShutdownTimeout),
			"for connections to finish when the service or havip ends").in("http", "tcp"),
		setting("tries", integer(&s.TCP.Tries).also(&s.HTTP.Tries), "backends to try until one answers").in("http", "tcp"),
		preset("limits", object(limitKeys(&s.Limits)), "{}", "of the connections of clients; a client is an address that connects, IPv6 ones count by /64, link-local ones by address").in("http", "tcp"),
		optional("tls", maybe(&s.TLS, (*ServerTLS).keys), "", "encryption towards clients; files are read again on reload; default: none").in("http", "tcp"),
		optional("backend_tls", maybe(&s.BackendTLS, backendTLSKeys), "", "encryption towards backends; files are read again on reload; default: none").in("http", "tcp"),
		preset("proxy_protocol", object(s.proxyKeys()), "{}", "passing on the client's address").in("http", "tcp"),
		preset("http", object(httpKeys(&s.HTTP)), "{}", "of requests").in("http"),
		preset("udp", object(udpKeys(&s.UDP)), "{}", "of datagrams").in("udp"),
		preset("access_log", orAlone(s.AccessLog.keys()), "false", "a line for each connection, request or session that has ended: true: in the log of havip, at level info; or a mapping as below"),
	}, homeOf(&s.Pool), homeOf(&s.TCP), homeOf(&s.UDP), homeOf(&s.HTTP), inside(s))
}

func (a *AccessLog) keys() []key {
	return []key{
		preset("log", boolean(&a.Log), "false", "in the log of havip, as true alone"),
		optional("file", absolutePath(&a.File), "/var/log/havip/web.log",
			"to whose end lines go; several services may have the same; opened anew on reload, SIGUSR1 and havip log reopen"),
		optional("format", choice(&a.Format), "json", "of the file: nginx's combined, in mode http only, or json; default: combined in mode http, else json"),
		optional("sample", within(integer(&a.Sample), 1, 1000000), "10", "of the file: one line for so many; what has failed always has its own; default: 1"),
	}
}

// serviceCheck is a mapping or the name of a check, which validate puts in its
// place.
func serviceCheck(to **Check) value {
	return value{decode: func(d *decoder, n *yaml.Node, path string) {
		c := &Check{path: path, ofBackends: true}
		*to = c
		if n.Kind == yaml.ScalarNode {
			c.Pos = d.position(n)
			name(&c.Name).decode(d, n, path)
			return
		}
		c.value().decode(d, n, path)
	}, variants: func() []section { return (&Check{ofBackends: true}).value().sections() }, rowsOf: func() []key { return (*to).present() }}
}

// serviceCheckAsAbove is serviceCheck without documentation of its own.
func serviceCheckAsAbove(to **Check) value {
	v := serviceCheck(to)
	v.variants = nil
	return v
}

// backend is a mapping, or the address alone.
func backend(b *lb.Backend) value {
	return orAlone(owned([]key{
		required("address", hostPort(&b.Address), "192.168.31.242:8080", "host:port, the name of SRV records, without a port, or in modes http and tcp unix: and a path"),
		setting("resolve", choice(&b.Resolve),
			"of a name with several addresses: each is a backend, called app1/192.168.31.242:8080, with weight, max_conns and check of its own; or one at a time"),
		optional("name", name(&b.Name), "app1", "in logs and for hashing, the same on all nodes; default: the address"),
		setting("weight", off(integer(&b.Weight)), "share of the traffic; 0: drain"),
		setting("backup", boolean(&b.Backup), "used only while all others are down"),
		setting("max_conns", integer(&b.MaxConns), "connections or requests at once; 0: any number"),
		setting("drain", boolean(&b.Drain), "gets no new connections; those that it has go on"),
	}, homeOf(b)))
}

func (r *ServiceRoute) value() value {
	return object(owned([]key{
		required("name", name(&r.Name), "mail", "in logs and metrics, after the service's"),
		optional("server_names", list(&r.ServerNames, serverName), "[mail.example.org]",
			"mode tcp, which requires it: that clients ask for; *.example.org: any one label before it"),
		optional("hosts", list(&r.Hosts, plain), "[www.example.org, \"*.example.org\"]",
			"mode http, like what follows; those of nginx's server_name, but for regular expressions, with its order of precedence; default: all"),
		optional("paths", list(&r.Paths, plain), `[/images/, "= /login", "~ \\.php$"]`,
			"as nginx's locations have them: /prefix, = /path, ^~ /prefix before regular expressions, ~ regexp, ~* regexp in any case; default: all"),
		optional("methods", list(&r.Methods, plain), "[GET, HEAD]",
			"with GET comes HEAD; others go to the next route, in the end to the backends above: to keep them out use access; default: all"),
		optional("headers", headers(&r.Headers), `{X-Version: "~ ^2"}`, "that a request must have; \"\": any value; ~ regexp").secret(),
		optional("sources", list(&r.Sources, trusted), "[192.168.0.0/16]",
			"networks of clients; others go to the next route, in the end to the backends above: to keep them out use access; default: all"),
		optional("backends", list(&r.Backends, backend), "[192.168.31.243:8443]", "as above; mode tcp requires it; default in mode http: the service's"),
		optional("check", serviceCheckAsAbove(&r.Check), "{type: tcp}", "as above; default: the service's"),
		optional("balance", inherited(choice(&r.Pool.Balance), &r.OwnPool), "least-conn", "of these backends, as above; default: the service's"),
		optional("pool", inherited(object(poolKeys(&r.Pool)), &r.OwnPool), "{slow_start: 30s}",
			"of these backends, as above; what is left out is the service's, what is given counts, be it 0 or false"),
		optional("backend_tls", r.backendTLS(), "{server_name: api.example.org}", "mode http: of these backends: off, or a mapping as above, in the place of the service's; default: the service's"),
		optional("connect_timeout", inherited(duration(&r.HTTP.ConnectTimeout), &r.Own), "1s", "mode http: as above; default: the service's"),
		optional("tries", inherited(integer(&r.HTTP.Tries), &r.Own), "1", "mode http: as above; default: the service's"),
		optional("access_log", not(&r.HTTP.Unlogged), "false", "mode http: false: no line for these requests, whatever access_log of the service says; they count in metrics; default: true"),
		optional("http", inherited(object(routeKeys(&r.HTTP)), &r.Own), "{max_body: 1GiB}",
			"as http above, for these requests; what is left out is the service's, what is given counts, be it 0, false or []; a mapping or a list, such as request_headers, replaces the service's as a whole"),
	}, homeOf(&r.Pool), homeOf(&r.HTTP), inside(r)))
}

// backendTLS is a mapping, or off: in the place of the service's.
func (r *ServiceRoute) backendTLS() value {
	off := func(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Value == "off" }
	v := maybe(&r.BackendTLS, backendTLSKeys)
	rows := v.rowsOf
	v = v.unless(off, func(*decoder, *yaml.Node, string) { r.Own = append(r.Own, backendTLS) })
	v.to, v.asAbove = []*target{{to: &r.BackendTLS, name: backendTLS, inherited: &r.Own}}, true
	v.isOff = func() bool { return slices.Contains(r.Own, backendTLS) }
	v.rowsOf = func() []key {
		if v.isOff() {
			return []key{}
		}
		return rows()
	}
	return v
}

// routeKeys are those of requests whose route is known.
func routeKeys(h *lb.HTTPConfig) []key {
	return slices.DeleteFunc(httpKeys(h), func(k key) bool { return slices.Contains(ofConnections, k.name) })
}

// ofConnections are the keys of http that a route does not have: they count before a request
// has its route.
var ofConnections = []string{"header_timeout", "max_streams", "max_header", "max_fields", "underscores", "trusted_proxies", "requests_per_connection"}

func poolKeys(p *lb.PoolConfig) []key {
	return owned([]key{
		setting("max_fails", off(integer(&p.MaxFails)),
			"failures within fail_timeout that take a backend out for so long, unless it is the last; 0: never"),
		setting("fail_timeout", duration(&p.FailTimeout), "see max_fails"),
		setting("slow_start", duration(&p.SlowStart), "in which a backend that came up, or was added, is given a growing share"),
		setting("quorum", integer(&p.Quorum), "weight of the healthy backends below which the backups are used"),
		setting("hysteresis", integer(&p.Hysteresis), "the quorum is lost below it less this, and regained at it plus this"),
		setting("panic", integer(&p.Panic), "percentage of healthy backends below which health is ignored"),
		setting("kill_on_down", boolean(&p.KillOnDown), "cut the connections, requests and UDP sessions of a backend that goes down"),
		setting("drain_timeout", duration(&p.DrainTimeout), "after which connections, requests and UDP sessions of a backend that drains, or was removed, are cut; 0s: never"),
		setting("queue", integer(&p.Queue), "how many may wait while all backends are at their max_conns").in("http", "tcp"),
		setting("queue_timeout", duration(&p.QueueTimeout), "for how long").in("http", "tcp"),
		setting("resolve_interval", duration(&p.ResolveInterval), "how often names of backends are looked up"),
	}, homeOf(p))
}

func limitKeys(l *lb.Limits) []key {
	return owned([]key{
		setting("connections", integer(&l.Connections), "at once; further ones wait; 0: any number"),
		setting("per_client", integer(&l.PerClient), "at once of one client; further ones are closed; 0: any number"),
		setting("rate", decimal(&l.Rate), "new ones per second of one client; further ones are closed; 0: any number"),
		optional("burst", positive(integer(&l.Burst)), "100", "new ones of it in one moment; default: the rate"),
		setting("total_rate", decimal(&l.TotalRate), "the same of all clients together"),
		optional("total_burst", positive(integer(&l.TotalBurst)), "1000", "the same of all clients together; default: the total rate"),
	}, homeOf(l))
}

func (t *ServerTLS) keys() []key {
	return []key{
		required("certificates", list(&t.Certificates, certificateFile), "[/etc/havip/web.pem]",
			"chosen by server name; the first also for other names; a file with certificate and key, or a mapping as below"),
		optional("client_ca", absolutePath(&t.ClientCA), "/etc/havip/ca.pem", "who signs the certificates of clients; default: they need none"),
		optional("client_auth", word(&t.ClientAuth, "required", "optional"), "required", "whether a client must have one; default with client_ca: required"),
		preset("min_version", word(&t.MinVersion, "1.2", "1.3"), "1.2", "of TLS"),
		optional("alpn", list(&t.ALPN, protocol), "[http/1.1]",
			"application protocols, the preferred one first; default: h2 and http/1.1 in mode http, else none"),
		optional("session_ticket_keys", list(&t.TicketKeys, absolutePath), "[/etc/havip/ticket.key]",
			"files of 48 or 80 bytes, as for nginx's ssl_session_ticket_key; the first encrypts, all decrypt; the same on both nodes: clients resume their sessions after a failover; default: random keys"),
		optional("session_ticket_secret", secret(&t.TicketSecret), "0123456789abcdef0123456789abcdef",
			fmt.Sprintf("instead, of which a key for each day is made; the same on both nodes; at least %d bytes, hex: and digits, file:PATH or env:NAME", lb.MinTicketSecret)).secret(),
	}
}

func certificateFile(c *lb.CertificateFile) value {
	return orAlone([]key{
		required("certificate", absolutePath(&c.Cert), "/etc/havip/web.pem", "with its chain"),
		optional("key", absolutePath(&c.Key), "/etc/havip/web.key", "default: the same file"),
		optional("ocsp_staple", absolutePath(&c.Staple), "/etc/havip/web.der",
			"the OCSP response that clients get with it, in DER form, as for nginx's ssl_stapling_file; one that is bad or has expired is logged, and not sent; default: none"),
	})
}

// backendTLSKeys are those of a check, but for the application protocols, which the mode
// of the service decides.
func backendTLSKeys(t *TLS) []key {
	return slices.DeleteFunc(t.keys(), func(k key) bool { return k.name == "alpn" })
}

func (s *Service) proxyKeys() []key {
	return owned([]key{
		optional("accept", list(&s.AcceptProxy, trusted), "[192.168.31.0/24]",
			"who must begin each connection with a PROXY header, version 1 or 2, in front of TLS; default: nobody"),
		setting("send", choice(&s.TCP.SendProxy).also(&s.HTTP.SendProxy),
			"the header that connections to backends, those of checks too, begin with, in front of TLS; in mode http each is kept for one connection of a client"),
	}, homeOf(&s.TCP), homeOf(&s.HTTP))
}

func httpKeys(h *lb.HTTPConfig) []key {
	return owned([]key{
		setting("header_timeout", duration(&h.HeaderTimeout), "for the header of a request, TLS handshake included; in HTTP/2 for the handshake alone: there idle_timeout ends a connection with an unfinished header"),
		setting("max_streams", integer(&h.MaxStreams), "requests at once on a connection of HTTP/2, as nginx's http2_max_concurrent_streams"),
		setting("response_timeout", duration(&h.Timeout), "longest silence of a backend, or of its reading, during a request"),
		setting("client_timeout", duration(&h.ClientTimeout), "longest silence of a client in the middle of a request, or of its reading: a stream of gRPC may need a longer one"),
		setting("tunnel_timeout", duration(&h.TunnelTimeout), "the same for upgraded connections such as WebSockets"),
		setting("max_header", size(&h.MaxHeader), "of requests, as HTTP/1.1 has it, in bytes or KiB; larger ones are answered with 431; of a trailer as well, 4 KiB in HTTP/1.1"),
		setting("max_fields", integer(&h.MaxFields), "in the header of a request, and in its trailer; more are answered with 431"),
		setting("backend_protocol", choice(&h.BackendProtocol), "what backends speak: http2 is for gRPC, with TLS by ALPN and without TLS by prior knowledge, and has no upgrades"),
		setting("reuse", choice(&h.Reuse), "of kept connections to backends: safe: a request that cannot be repeated gets a fresh one; always: for any request, as nginx does"),
		setting("max_body", size(&h.MaxBody), "of requests, in bytes, KiB, MiB or GiB; larger ones are answered with 413; 0: any"),
		optional("trusted_proxies", list(&h.TrustedProxies, trusted), "[192.168.31.0/24]",
			"in front of this one, whose X-Forwarded-For tells the client: its last address that is none of them; whose X-Forwarded-Proto and X-Forwarded-Host are passed on, and of others neither X-Forwarded-For nor Forwarded"),
		setting("underscores", choice(&h.Underscores), "requests' headers whose names hold other than letters, digits and hyphens; one that CGI takes for a header set here is dropped in any case"),
		optional("request_headers", headers(&h.RequestHeaders), `{X-Balancer: "${local}"}`,
			"set on requests, or removed if empty; ${client}, ${local}: addresses of the client, and that it connected to; ${client_cert}: the client's certificate, as nginx's $ssl_client_escaped_cert; "+
				"of it ${client_cert_verified} (SUCCESS or NONE), ${client_cert_subject}, ${client_cert_issuer}, ${client_cert_serial}, ${client_cert_fingerprint} (SHA-256); ${tls_version}, ${tls_cipher}, ${server_name}; "+
				"of the request ${scheme}, ${host}, ${http_host} (with its port), ${server_port}, ${method}, ${uri}, ${path}, ${query}, ${arg_NAME}, ${cookie_NAME}, ${header_NAME}, ${request_id}, ${route}").secret(),
		optional("response_headers", headers(&h.ResponseHeaders), `{LB_IP: "${source}"}`,
			"the same on responses, those made here as well; ${backend}, ${source}: the backend's name, and our address towards it").secret(),
		optional("add_request_headers", addedHeaders(&h.AddRequestHeaders), `{X-Tag: "${route}"}`, "added to requests, beside what is there already; a list of values makes a header of each").secret(),
		optional("add_response_headers", addedHeaders(&h.AddResponseHeaders), `{Link: ["</a.css>; rel=preload", "</b.js>; rel=preload"]}`, "the same on responses, and on answers made here").secret(),
		setting("forwarded", boolean(&h.Forwarded), "backends get Forwarded (RFC 7239), too: for, host and proto, behind what trusted_proxies say"),
		optional("via", text(&h.Via, "a name such as lb, or a host", anyText), "lb.example.org", "our name in Via, on requests and responses; default: none is added"),
		optional("request_id", choice(&h.RequestID), "keep", "X-Request-ID for backends and clients: keep: the client's, if it is valid, else a new one; make: always a new one; off: theirs; default: off"),
		optional("access", list(&h.Access, accessRule), `["allow 192.168.0.0/16", "deny all"]`,
			"who gets an answer: the first rule that has the client counts, others are allowed; denied ones get 403"),
		optional("redirect", object(redirectKeys(h)), "{location: https, status: 308}",
			"of clients; location: a URL or a path, with variables as in headers, and ${1} to ${9}, or $1 to $9: the groups of the route's regular expression; "+
				"https: the same URL with https, unless the request has come so; "+
				"status: default 301 with https, else 302; of a service with routes for requests without one"),
		optional("answer", object(answerKeys(h)), `{status: 200, type: text/html, content: "<p>here is ${host}"}`,
			"a fixed one, with variables as for redirect; default of type: text/plain; charset=utf-8; as redirect for requests without a route"),
		optional("rewrite", object(rewriteKeys(h)), `{strip_prefix: /api, regexp: "^/old/(.*)$", replacement: "/new/$1", add_prefix: /v1}`,
			"of the path that backends get, in this order: decoded, without steps, encoded again; the replacement takes the place of the whole path, and what stands there behind a ? comes before the query; "+
				"as redirect for requests without a route"),
		optional("rewrite_location", list(&h.RewriteLocation, locationRewrite), `[{prefix: /, to: /app/}]`,
			"of the URLs to which backends send clients (Location, and Refresh), as nginx's proxy_redirect; the first that matches counts; one that should stay takes an item before it, as {prefix: /app/, to: /app/}"),
		optional("basic_auth", auth(&h.Auth), "{realm: closed site, file: /etc/havip/htpasswd}",
			"users and passwords that are asked for; off, or a mapping as below; default: off"),
		setting("maintenance", boolean(&h.Maintenance), "all requests are answered with 503"),
		optional("maintenance_page", page(&h.MaintenancePage), "{file: /etc/havip/maintenance.html}", "what they get; off, or a mapping as below; default: the error page for 503"),
		setting("retry_after", off(duration(&h.RetryAfter)), "what Retry-After says with that, and with the sorry page; 0s: it is not sent"),
		optional("sorry", page(&h.Sorry), "{file: /etc/havip/sorry.html}",
			"what answers, with 503, while no backend is up; off, or a mapping with the keys of maintenance_page; default: the error page for 503"),
		optional("error_pages", list(&h.ErrorPages, errorPage), "[{statuses: [502, 504], file: /etc/havip/50x.html}]",
			"in the place of the line of text that tells of an error; as nginx's error_page"),
		setting("intercept_errors", boolean(&h.InterceptErrors), "error_pages also in the place of backends' responses, as nginx's proxy_intercept_errors"),
		setting("buffering", choice(&h.Buffering), "of the body of a request, before a backend is chosen, so that a slow client occupies none; not in HTTP/2, of gRPC, nor with an Upgrade"),
		setting("buffer_memory", size(&h.BufferMemory), "how much of a body is held in memory; a longer one goes to a file without a name"),
		setting("buffer_folder", absolutePath(&h.BufferFolder), "of these files; where it cannot be written, or is full, bodies are streamed, and the log says so"),
		setting("buffer_total", size(&h.BufferTotal), "which these files have together; one has half of what is left beside it at most"),
		optional("compress", compress(&h.Compress), "{encodings: [zstd, gzip]}",
			"responses are compressed for clients that accept it; off, or a mapping as below; who sees their length can guess what they hold beside what a request says (BREACH); default: off"),
		optional("sticky", sticky(&h.Sticky), "", "each client comes back to its backend by a cookie: off, or a mapping as below; default: off"),
		optional("hash_key", plain(&h.HashKey), `"${cookie_session}"`,
			"what balance: key-hash ties to a backend, with the variables of request_headers; a request that has nothing of it goes by its client's address; default: the path"),
		optional("retry_statuses", list(&h.RetryStatuses, integer), "[502, 503]",
			"of a backend's response for which another backend is asked instead, as nginx's proxy_next_upstream; the client gets it where there is none; 429 and 500 to 599 are failures of the backend then; default: none"),
		setting("retry_budget", off(integer(&h.RetryBudget)),
			"percentage of the requests of the last 10s that other backends may get which one has seen already; 100 of them in any case; 0: any number"),
		setting("retry_non_idempotent", boolean(&h.RetryNonIdempotent), "repeat POST, PATCH and other methods as well when a backend has seen the request, which may then be done twice"),
		optional("request_rate", off(decimal(&h.RequestRate)), "100", "requests per second of one client; further ones are answered with 429; 0: any number; default: any number"),
		optional("request_burst", positive(integer(&h.RequestBurst)), "200", "requests of it in one moment, one more than nginx's burst with nodelay; default: the rate"),
		optional("requests_per_client", off(integer(&h.RequestsPerClient)), "50", "at once of one client; further ones are answered with 429; 0: any number; default: any number"),
		optional("max_uri", off(integer(&h.MaxURI)), "4096", "bytes of a request's target; longer ones are answered with 414; 0: any; default: any that max_header lets through"),
		optional("min_rate", off(integer(&h.MinRate)), "240",
			"bytes per second which a client must send of a body, on average, while that is awaited; a slower one is answered with 408; a stream of gRPC that may be silent needs a route with 0; 0: any; default: any"),
		setting("min_rate_grace", duration(&h.MinRateGrace), "how long it may be slower, or silent"),
		optional("requests_per_connection", integer(&h.RequestsPerConnection), "1000", "of a client, which the last answer then ends; 0: any number; default: any number"),
	}, homeOf(h))
}

// compress is a mapping, or off.
func compress(to **lb.Compress) value {
	return orOff(to, compressKeys)
}

// sticky is a mapping, or off.
func sticky(to **lb.Sticky) value {
	return orOff(to, stickyKeys)
}

func stickyKeys(s *lb.Sticky) []key {
	return owned([]key{
		required("cookie", plain(&s.Cookie), "backend", "its name"),
		required("secret", revealed(&s.Key), "file:/etc/havip/sticky.key",
			"signs it: at least 16 bytes, the same on both nodes; hex: and digits, file:PATH or env:NAME; read again on reload; with another one clients get a backend anew").secret(),
		setting("max_age", duration(&s.MaxAge), "for which clients keep it after they have got it; 0s: until they end"),
		setting("path", plain(&s.Path), "where clients send it"),
		optional("domain", plain(&s.Domain), "example.org", "to which clients send it, and to hosts below; default: the host that they ask"),
		setting("secure", boolean(&s.Secure), "clients send it by TLS only"),
		setting("http_only", boolean(&s.HTTPOnly), "scripts do not see it"),
		setting("same_site", choice(&s.SameSite), "for which requests of other sites clients send it; none takes secure"),
	}, homeOf(s))
}

func compressKeys(c *lb.Compress) []key {
	return owned([]key{
		required("encodings", list(&c.Encodings, func(e *lb.Encoding) value { return choice(e) }), "[zstd, gzip]",
			"gzip or zstd: a client gets the first of those that it likes best"),
		optional("types", list(&c.Types, contentType), "[text/html, text/css]",
			`all that are compressed, "*" for any; default: text/html and other text, JSON, XML, SVG, but not text/event-stream`),
		setting("min_length", size(&c.MinLength), "in bytes or KiB; shorter ones are not worth while"),
		setting("level", integer(&c.Level), "how much work is done, as of gzip; of zstd there are three, from 1, 3 and 6 on"),
		setting("max_active", integer(&c.MaxActive), "at the same time, each of which needs 1 MiB, with zstd up to 5 MiB by its level; further ones are not compressed"),
	}, homeOf(c))
}

func redirectKeys(h *lb.HTTPConfig) []key {
	return owned([]key{
		optional("location", plain(&h.Redirect.Location), "https", "where clients are sent"),
		optional("status", positive(integer(&h.Redirect.Status)), "308", "of the answer"),
	}, homeOf(h))
}

func answerKeys(h *lb.HTTPConfig) []key {
	return owned([]key{
		optional("status", positive(integer(&h.Answer.Status)), "200", "required; 444 closes the connection without an answer, as in nginx"),
		optional("type", plain(&h.Answer.Type), "text/html", "Content-Type"),
		optional("content", plain(&h.Answer.Content), `"here is ${host}"`, "the body"),
	}, homeOf(h))
}

func rewriteKeys(h *lb.HTTPConfig) []key {
	return owned([]key{
		optional("strip_prefix", plain(&h.Rewrite.StripPrefix), "/api", "taken from the beginning of the path"),
		optional("regexp", plain(&h.Rewrite.Regexp), `"^/old/(.*)$"`, "of paths that are replaced"),
		optional("replacement", plain(&h.Rewrite.Replacement), `"/new/$1"`, "of the whole path"),
		optional("add_prefix", plain(&h.Rewrite.AddPrefix), "/v1", "put before the path"),
	}, homeOf(h))
}

func locationRewrite(r *lb.LocationRewrite) value {
	return object([]key{
		optional("prefix", plain(&r.Prefix), "http://internal:8080/", "with which a URL begins that is rewritten; what follows stays; with variables as in response_headers"),
		optional("regexp", plain(&r.Regexp), `"^http://[^/]+/user/(.*)$"`, "instead, of URLs that are replaced as a whole"),
		required("to", plain(&r.To), "/app/",
			"a path or a URL, with variables as in response_headers, and ${1} to ${9}: the groups of regexp; they cannot make another host of it: such a URL stays as it came"),
	})
}

func udpKeys(u *lb.UDPConfig) []key {
	return owned([]key{
		setting("responses", integer(&u.Responses), "datagrams from the backend that end a session, one without any being its failure: 1 suits DNS; 0: no number"),
		setting("max_sessions", integer(&u.MaxSessions), "at once; a further one takes the place of the one idle for longest"),
	}, homeOf(u))
}
