// Package admin is how a running havip is asked and steered: JSON over HTTP, on a Unix
// socket and, if the file asks for that, on TCP.
//
// A [Server] reads through the interface [Node] only, and what it reads is made without a
// lock of the daemon. Whatever clients do, the daemon goes on: connections, streams,
// bodies and time are bounded, a panic ends one request, and an address that cannot be
// listened on is tried again.
//
// On the socket the kernel says who asks: root and the user of the daemon may steer, other
// users read. On TCP everybody reads, and who shows the token or a client certificate
// steers. Browsers get no further than that: the Host that they name must be this host's,
// and a request from another page is refused.
//
// The routes stand in one table, routes.go, from which the description in OpenAPI is made.
// To add one, add a row and its handler, and have the comments of its types read by
// go test ./internal/admin -run TestComments -update.
package admin
