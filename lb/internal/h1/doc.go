// Package h1 is HTTP/1.1 as functions over bytes (RFC 9112): heads of messages are parsed
// where they lie, bodies in chunks are followed, and what goes out is appended to a buffer.
// There is no input or output, and nothing is allocated but for errors and for more fields
// than before.
//
//	var req h1.Request
//	n, err := req.Parse(buf, limits)
//	switch {
//	case err != nil:
//		// an *Error with the status for the client; the connection ends
//	case n == 0:
//		// the head is not complete: read more, and call again
//	default:
//		// buf[n:] is the body, as req.Length says, and what follows
//	}
//
// A proxy has a program before and one behind it, and all of them must see the same
// messages. So what some read in one way and some in another is refused, even where the
// RFC allows to repair it: a line that ends in LF alone, a folded line, a Content-Length
// said twice, a transfer coding but chunked.
//
// The strings of what was parsed share the memory of the bytes: who keeps one clones it.
package h1
