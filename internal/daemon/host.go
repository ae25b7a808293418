package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/config"
)

// ThisHost is the machine, or the network namespace, that this process is in. It is
// looked at with the privileges of a daemon: those of this process if it has any, or
// else root's.
func ThisHost() (config.Host, error) {
	h := config.Host{
		Interfaces: make(map[string][]netip.Addr),
		Program:    lookAtProgram,
		ReadFile:   config.ReadFile,
		FIFO:       lookAtFIFO,
		Folder:     lookAtFolder,
		Port:       mayListen,
		Group:      lookUpGroup,
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return h, err
	}
	for _, i := range interfaces {
		addresses, err := i.Addrs()
		if err != nil {
			return h, fmt.Errorf("interface %s: %w", i.Name, err)
		}
		h.Interfaces[i.Name] = nil
		for _, a := range addresses {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				h.Interfaces[i.Name] = append(h.Interfaces[i.Name], p.Addr().Unmap().WithZone(""))
			}
		}
	}
	return h, nil
}

// lookUpGroup reports why there is no group of a name, or number.
func lookUpGroup(name string) error {
	if _, err := strconv.ParseUint(name, 10, 32); err == nil {
		return nil
	}
	if _, err := user.LookupGroup(name); err != nil {
		return errors.New("no such group on this machine: groupadd --system " + name)
	}
	return nil
}

// lookAtProgram is ReadyPrivileged without the program's path, which the caller says.
func lookAtProgram(p config.Program) error {
	err := executable(p).ReadyPrivileged()
	if err == nil {
		return nil
	}
	if _, reason, ok := strings.Cut(err.Error(), healthcheck.ErrCannotRun.Error()+": "); ok {
		return errors.New(reason)
	}
	return err
}

// lookAtFIFO reports why openFIFO would fail, and makes nothing.
func lookAtFIFO(path string) error {
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.Mode()&fs.ModeNamedPipe == 0:
		return errors.New("something else is there, not a FIFO: remove it, or name another path")
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return lookAtFolder(filepath.Dir(path))
}

// lookAtFolder reports why no file can be made in a folder.
func lookAtFolder(dir string) error {
	switch info, err := os.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("no directory %s: mkdir -p %s", dir, dir)
	case err == nil && !info.IsDir():
		return fmt.Errorf("%s is no directory", dir)
	default:
		return err
	}
}
