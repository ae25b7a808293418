package lab

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Decode gives the frames recorded so far to a program that reads them from
// the file named behind its arguments, such as "tcpdump", "-n", "-r", and
// returns what the program printed to standard output.
func (c *Capture) Decode(program string, args ...string) (string, error) {
	exe, err := lookPath(program)
	if err != nil {
		return "", fmt.Errorf("lab: %s: %w", program, err)
	}
	dir, err := os.MkdirTemp("", "havip-lab-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "lab.pcap")
	if err := c.WritePCAP(path); err != nil {
		return "", err
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(exe, append(args, path)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// tcpdump insists on giving up root, which root of our user namespace cannot: tcpdump
	// runs in a further user namespace.
	if b, _ := os.ReadFile("/proc/self/setgroups"); string(b) == "deny\n" {
		ids := []syscall.SysProcIDMap{{ContainerID: 1, HostID: 0, Size: 1}}
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids}
	}
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("lab: %s: %w: %s", program, err, stderr.Bytes())
	}
	return stdout.String(), nil
}
