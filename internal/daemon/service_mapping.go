package daemon

import (
	"cmp"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/lb"
)

// tcpConfig is what mode tcp does with connections, but for pools and TLS.
func tcpConfig(c config.Service) lb.TCPConfig {
	t := lb.TCPConfig{
		AcceptProxy:      c.Proxy.Accept,
		HandshakeTimeout: c.HandshakeTimeout,
		ConnectTimeout:   c.ConnectTimeout,
		IdleTimeout:      c.IdleTimeout,
		ShutdownTimeout:  cmp.Or(c.ShutdownTimeout, -1),
		Tries:            c.Tries,
		Limits:           c.Limits,
	}
	switch c.Proxy.Send {
	case "v1":
		t.SendProxy = lb.ProxyV1
	case "v2":
		t.SendProxy = lb.ProxyV2
	}
	return t
}

// udpConfig is what mode udp does with datagrams, but for the pool.
func udpConfig(c config.Service) lb.UDPConfig {
	return lb.UDPConfig{IdleTimeout: c.IdleTimeout, Responses: c.UDP.Responses, MaxSessions: c.UDP.MaxSessions}
}

// handlerConfig is what mode http does with requests, but for pool and TLS.
func handlerConfig(c config.Service) lb.HandlerConfig {
	return lb.HandlerConfig{
		ConnectTimeout:  c.ConnectTimeout,
		Timeout:         c.HTTP.ResponseTimeout,
		TunnelTimeout:   c.HTTP.TunnelTimeout,
		Tries:           c.Tries,
		MaxBody:         c.HTTP.MaxBody,
		TrustedProxies:  c.HTTP.TrustedProxies,
		RequestHeaders:  headerMap(c.HTTP.RequestHeaders),
		ResponseHeaders: headerMap(c.HTTP.ResponseHeaders),
	}
}

func headerMap(headers []config.Header) map[string]string {
	m := make(map[string]string, len(headers))
	for _, h := range headers {
		m[h.Name] = h.Value
	}
	return m
}
