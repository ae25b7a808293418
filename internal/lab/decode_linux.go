package lab

import (
	"bytes"
	"fmt"
	"os/exec"
	"syscall"
)

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
