package healthcheck

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// GRPC is a [Checker] that asks a server by the gRPC health checking protocol,
// grpc.health.v1.Health/Check: SERVING is healthy.
type GRPC struct {
	// Address is "host:port" or "[v6]:port". Required.
	Address string
	// Service is the service to ask for. Default: the server as a whole.
	Service string
	// Authority is the :authority of the request. Default: Address.
	Authority string
	// TLS encrypts, with ServerName by default the host of Address. Default:
	// HTTP/2 in clear text.
	TLS *tls.Config
}

// String names the check in errors and log lines.
func (c GRPC) String() string { return "grpc " + c.Address }

// WithDefaults returns c: the default of every field but Address is its zero.
func (c GRPC) WithDefaults() GRPC { return c }

// Validate reports an address that cannot be dialled, and names of a wrong form.
func (c GRPC) Validate() error {
	return errors.Join(validateAddress("Address", c.Address), optional(c.Service, validateText("Service", c.Service, "the name of a service")),
		optional(c.Authority, validateHostHeader("Authority", c.Authority)))
}

// Check asks the server.
func (c GRPC) Check(ctx context.Context) error { return fail(c, c.probe(ctx)) }

func (c GRPC) probe(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	target := url.URL{Scheme: "http", Host: c.Address, Path: "/grpc.health.v1.Health/Check"}
	if c.TLS != nil {
		target.Scheme = "https"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(healthRequest(c.Service)))
	if err != nil {
		return err
	}
	req.Host = c.Authority
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	req.Header.Set("User-Agent", "havip-healthcheck")
	if deadline, ok := ctx.Deadline(); ok {
		ms := max(time.Until(deadline).Milliseconds(), 1)
		req.Header.Set("Grpc-Timeout", strconv.FormatInt(min(ms, 99999999), 10)+"m")
	}
	resp, err := http2(ctx, req, c.TLS)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/grpc") {
		return fmt.Errorf("not gRPC: status %q, content type %q", resp.Status, resp.Header.Get("Content-Type"))
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return fmt.Errorf("response: %w", cause(err))
	}
	if len(body) == maxReply {
		return fmt.Errorf("response exceeds %d bytes", maxReply)
	}
	if err := callStatus(resp); err != nil {
		return err
	}
	status, err := parseHealthResponse(body)
	if err != nil {
		return err
	}
	if status != serving {
		return fmt.Errorf("service %q is %s", c.Service, servingName(status))
	}
	return nil
}

// callStatus returns the error of the call itself. It is in the trailers, or
// in the header of a response that has nothing else.
func callStatus(resp *http.Response) error {
	field := func(name string) string { return cmp.Or(resp.Trailer.Get(name), resp.Header.Get(name)) }
	code, message := field("Grpc-Status"), field("Grpc-Message")
	switch code {
	case "0":
		return nil
	case "":
		return errors.New("response without a gRPC status")
	}
	if text, err := url.PathUnescape(message); err == nil {
		message = text
	}
	return fmt.Errorf("gRPC status %s: %s", excerpt([]byte(code)), excerpt([]byte(message)))
}

// healthRequest returns a HealthCheckRequest, whose field 1 is the service, as
// a message on the wire: one byte that says "not compressed", four of length.
func healthRequest(service string) []byte {
	var msg []byte
	if service != "" {
		msg = append(binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(service))), service...)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(msg))), msg...)
}

// serving is the healthy value of HealthCheckResponse.ServingStatus.
const serving = 1

func servingName(status uint64) string {
	names := [...]string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}
	if status < uint64(len(names)) {
		return names[status]
	}
	return fmt.Sprintf("in status %d", status)
}

var errHealthResponse = errors.New("malformed HealthCheckResponse")

// parseHealthResponse returns field 1, the status, of the one message in body.
// Fields of later versions of the protocol are skipped.
func parseHealthResponse(body []byte) (status uint64, err error) {
	if len(body) < 5 || body[0] != 0 || uint64(binary.BigEndian.Uint32(body[1:])) != uint64(len(body)-5) {
		return 0, errHealthResponse
	}
	for msg := body[5:]; len(msg) > 0; {
		tag, n := binary.Uvarint(msg)
		if n <= 0 || tag>>3 == 0 {
			return 0, errHealthResponse
		}
		msg = msg[n:]
		value, n := binary.Uvarint(msg)
		var size uint64 // of the field's value; 0: of a wire type that this protocol does not have
		switch tag & 7 {
		case 0: // varint
			size = uint64(n)
		case 1:
			size = 8
		case 2: // length-delimited
			size = uint64(n) + min(value, maxReply)
		case 5:
			size = 4
		}
		if size == 0 || size > uint64(len(msg)) {
			return 0, errHealthResponse
		}
		if tag == 1<<3 {
			status = value
		}
		msg = msg[size:]
	}
	return status, nil
}
