package config

// keys are those of the section admin.
func (a *Admin) keys() []key {
	return owned([]key{
		optional("socket", socketPath(&a.Socket), DefaultSocket,
			"Unix socket of the commands, such as havip status: root, and who havip runs as, may steer; off: none; "+
				"default: the environment variable HAVIP_SOCKET, or this"),
		optional("group", text(&a.Group, "the name or the number of a group", userForm.MatchString), "havip",
			"whose members may open the socket, too, and read; default: nobody else"),
		optional("listen", listenAddress(&a.Listen), "127.0.0.1:9650",
			"address and port of the status page, /metrics, /healthz, /readyz and the API; for reading, unless token or client_ca say who may steer; default: none"),
		optional("hostnames", list(&a.Hostnames, host), "[lb01.example.org]",
			"that browsers and others may call listen by, besides addresses, localhost, this host's name and those of the certificate: "+
				"a page elsewhere can give an address of its own any other name"),
		optional("tls", maybe(&a.TLS, (*AdminTLS).keys), "", "encryption of listen; renewed files are read without a reload; default: none"),
		optional("token", secret(&a.Token), "0123456789abcdef0123456789abcdef",
			"for who may steer by way of listen, as Authorization: Bearer TOKEN, or logged in on the page; "+
				"at least 16 characters; file:PATH and env:NAME keep it out of here; default: nobody may").secret(),
		preset("pprof", boolean(&a.PProf), "false", "profiles of the process under /debug/pprof/, for who may steer"),
		optional("state", text(&a.State, "an absolute path, or off", absoluteOrOff), defaultState,
			"folder of what outlives a restart: that the node is in maintenance; off: nothing does; "+
				"default: the first of the environment variable STATE_DIRECTORY, which systemd sets, or this"),
	}, inside(a))
}

func (t *AdminTLS) keys() []key {
	return owned([]key{
		required("certificate", absolutePath(&t.Certificate), "/etc/havip/admin.pem", "with its chain"),
		optional("key", absolutePath(&t.Key), "/etc/havip/admin.key", "default: the same file"),
		optional("client_ca", absolutePath(&t.ClientCA), "/etc/havip/operators.pem",
			"a client with a certificate that this authority has signed may steer; default: a certificate gives no right"),
	}, inside(t))
}
