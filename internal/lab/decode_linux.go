package lab

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os/exec"
	"syscall"
)

// PCAP returns the frames recorded so far as a file in libpcap's format, for tcpdump or
// tshark.
func (c *Capture) PCAP() []byte {
	var file []byte
	add := func(fields ...int64) {
		for _, v := range fields {
			file = binary.LittleEndian.AppendUint32(file, uint32(v))
		}
	}
	const nanoseconds, version, snapLen, ethernet = 0xa1b23c4d, 4<<16 | 2, 1 << 18, 1 // version 2.4
	add(nanoseconds, version, 0, 0, snapLen, ethernet)
	for _, f := range c.Packets() {
		length := int64(len(f.Data))
		add(f.Time.Unix(), int64(f.Time.Nanosecond()), length, length)
		file = append(file, f.Data...)
	}
	return file
}

// Decode gives the frames recorded so far to a program that reads them from the file named
// behind its arguments, such as "tcpdump", "-n", "-r". The file is standard input. Decode
// returns what the program printed to standard output.
func (c *Capture) Decode(program string, args ...string) (string, error) {
	exe, err := lookPath(program)
	if err != nil {
		return "", fmt.Errorf("lab: %s: %w", program, err)
	}
	var stderr bytes.Buffer
	cmd := exec.Command(exe, append(args, "-")...)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(c.PCAP()), &stderr
	// tcpdump insists on giving up root, which root of our user namespace cannot: tcpdump
	// runs in a further user namespace.
	if oneUser() {
		ids := []syscall.SysProcIDMap{{ContainerID: 1, HostID: 0, Size: 1}}
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids}
	}
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("lab: %s: %w: %s", program, err, stderr.Bytes())
	}
	return string(out), nil
}
