// Package h2 is the client's side of HTTP/2 (RFC 9113), as a proxy needs it: one connection
// to a server, and streams of it that the caller drives.
//
// The caller writes the head, the body and the trailer of a request when it has them, and
// reads the heads, the body and the trailer of the response when it wants them, both at the
// same time if need be. Nothing is repeated, compressed, renamed or put in another order.
// After an error [Stream.Unprocessed] tells whether the server has said that it has not
// looked at the request: only then may any request be sent again.
//
//	c, err := h2.NewConn(ctx, conn, h2.Config{})
//	s, err := c.Open()             // takes one of the streams that the server allows
//	err = s.WriteHead(fields, end) // :method, :scheme, :authority, :path, and the rest
//	head, err := s.ReadHead()      // maybe informational: then there is another one
//	n, err := s.Read(p)            // io.EOF: s.Trailer()
//	s.Close()
//
// Frames and HPACK are those of golang.org/x/net. Its client is not used: it decides by
// itself when to read a request's body, when to give an upload up and when to try again,
// and does not say which streams a GOAWAY has left alone.
package h2
