package monitor

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// errNoCapture: the file is something else.
var errNoCapture = errors.New("not a capture: want a file of tcpdump -w or Wireshark (pcap or pcapng)")

// openFile returns what reads the next frame of a file of either format, which gzip may
// have compressed. After the last frame the error is io.EOF.
func openFile(r io.Reader) (func() (Frame, error), error) {
	in, magic, err := unzip(r)
	if err != nil {
		return nil, err
	}
	open := openPcap
	if bytes.Equal(magic, []byte{0x0a, 0x0d, 0x0d, 0x0a}) {
		open = openNg
	}
	next, err := open(in)
	if err != nil {
		return nil, err
	}
	return func() (Frame, error) {
		f, err := next()
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("the file ends in the middle of a frame: it was cut, or is still being written")
		}
		return f, err
	}, nil
}

// unzip returns what r has, without compression, and the four bytes that it begins with.
func unzip(r io.Reader) (*bufio.Reader, []byte, error) {
	in := bufio.NewReader(r)
	magic, err := in.Peek(4)
	if bytes.HasPrefix(magic, []byte{0x1f, 0x8b}) {
		zipped, err := gzip.NewReader(in)
		if err != nil {
			return nil, nil, err
		}
		in = bufio.NewReader(zipped)
		magic, _ = in.Peek(4)
		return in, magic, nil
	}
	if len(magic) == 0 && errors.Is(err, io.EOF) {
		return nil, nil, errors.New("empty: want a file of tcpdump -w or Wireshark")
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	return in, magic, nil
}

// openPcap reads the format of tcpdump.
func openPcap(in io.Reader) (func() (Frame, error), error) {
	r, err := pcapgo.NewReader(in)
	if err != nil {
		return nil, errNoCapture
	}
	if err := checkLink(r.LinkType()); err != nil {
		return nil, err
	}
	return func() (Frame, error) {
		data, info, err := r.ReadPacketData()
		return Frame{Time: info.Timestamp, Link: r.LinkType(), Data: data, Length: info.Length}, err
	}, nil
}

// openNg reads the format of Wireshark, whose frames may be of several interfaces.
func openNg(in io.Reader) (next func() (Frame, error), err error) {
	defer recovered(&err)
	r, err := pcapgo.NewNgReader(in, pcapgo.NgReaderOptions{WantMixedLinkType: true, SkipUnknownVersion: true})
	if err != nil {
		return nil, errNoCapture
	}
	return func() (f Frame, err error) {
		defer recovered(&err)
		data, info, err := r.ReadPacketData()
		if err != nil {
			return Frame{}, err
		}
		iface, err := r.Interface(info.InterfaceIndex)
		if err != nil {
			return Frame{}, err
		}
		if err := checkLink(iface.LinkType); err != nil {
			return Frame{}, err
		}
		return Frame{Time: info.Timestamp, Interface: iface.Name, Link: iface.LinkType, Data: data, Length: info.Length}, nil
	}, nil
}

// recovered turns a panic of the library about a damaged file into an error.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("the file is damaged: %v", r)
	}
}

func checkLink(t layers.LinkType) error {
	if _, ok := linkTypes[t]; !ok {
		return fmt.Errorf("link type %d (%v): want Ethernet, Linux cooked (tcpdump -i any) or raw IP", t, t)
	}
	return nil
}
