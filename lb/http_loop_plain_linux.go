//go:build !engine

package lb

// httpLoop accepts connections; all but Post runs in its goroutine.
type httpLoop struct {
	acceptor
	e         *httpEngine
	greetings greetings
}

func newHTTPLoop(e *httpEngine, in *intake) (*httpLoop, error) {
	l := &httpLoop{e: e}
	l.greetings.loop = l
	return l, l.join(in, l.openHTTP)
}

// run serves until accepting has stopped and the last connection has ended.
func (l *httpLoop) run() {
	defer l.freeAll()
	for l.listener >= 0 || l.live.Load() > 0 {
		for _, ev := range l.Wait(min(l.resumeAt, l.greetings.timers.Next())) {
			switch {
			case ev.Fd == placeListener:
				l.acceptSome()
			case ev.Fd < placeListener:
				l.greetings.read(ev)
			}
		}
		if l.Now() >= l.resumeAt {
			l.resumeAccepting()
		}
		l.greetings.expire()
	}
}

func (l *httpLoop) freeAll() { l.Close() }

// openConn serves a connection without TLS.
func (l *httpLoop) openConn(a arrival) { l.handOver(a) }

// cut ends the connections of servers.
func (l *httpLoop) cut(gone servers) {
	if gone == nil {
		l.greetings.dismissAll()
	}
}

// endIdle ends the connections that have had a request and wait for the next one.
func (l *httpLoop) endIdle() {}
