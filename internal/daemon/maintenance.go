package daemon

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/havip/havip/internal/regular"
	"github.com/havip/havip/internal/report"
	"github.com/havip/havip/vrrp"
)

// A maintenance outlives a restart as a file in the folder of admin.state. That the file is
// there is the fact; what is in it only says since when and why. So a file that
// was damaged counts as well: a node that comes back in the middle of somebody's work would
// take an address for which it may not be ready, and its peer serves meanwhile. But where
// nobody can say whether there is a file, as without the right to look into the folder,
// there is no maintenance: such a fault of the machine may well be on both nodes, and
// nobody would have the address.

// maintenanceFile is the name of the file.
const maintenanceFile = "maintenance.json"

// maintenanceNote is what is in the file.
type maintenanceNote struct {
	Since  time.Time `json:"since"`
	Reason string    `json:"reason,omitempty"`
}

// KeepState names the folder in which a maintenance outlives a restart; empty: it outlives
// none. A maintenance that is noted there holds from then on: call KeepState before Run,
// and no router takes an address. Later calls, after a reload, move the note.
func (d *Daemon) KeepState(folder string) {
	s := d.steering
	s.saving.Lock()
	defer s.saving.Unlock()
	before := s.folder
	s.folder = folder
	select {
	case <-d.started:
		if before != folder {
			d.moveNote(before)
		}
		return
	default:
	}
	if folder == "" {
		return
	}
	path := filepath.Join(folder, maintenanceFile)
	note, there, err := readNote(path)
	switch {
	case there && err != nil:
		d.log.Error("the note of a maintenance cannot be read: it is taken for one", "path", path, "err", err)
	case err != nil:
		d.log.Error("whether there is a maintenance cannot be found out: none is assumed", "path", path, "err", err)
	}
	if there {
		s.setMaintenance(&report.Maintenance{Since: note.Since, Reason: note.Reason, Lasting: true})
		d.log.Warn("maintenance goes on: no router takes part, until it is ended by a command", "since", note.Since, "reason", note.Reason)
	}
}

// moveNote has the note of the maintenance in another folder than before. saving is held.
func (d *Daemon) moveNote(before string) {
	s := d.steering
	if m := s.inMaintenance(); m != nil {
		m.Lasting = d.note(maintenanceNote{Since: m.Since, Reason: m.Reason}) == ""
		s.setMaintenance(m)
		if before != "" {
			_ = removeDurably(filepath.Join(before, maintenanceFile))
		}
		return
	}
	if s.folder == "" {
		return
	}
	path := filepath.Join(s.folder, maintenanceFile)
	if _, there, _ := readNote(path); there {
		d.log.Warn("an old note of a maintenance is in the folder: the next start begins it, unless the file is removed", "path", path)
	}
}

// Maintenance returns the maintenance that keeps all routers out of the election; nil:
// there is none.
func (d *Daemon) Maintenance() *report.Maintenance { return d.steering.inMaintenance() }

// NoteStays reports whether the note of a maintenance that has ended could not be removed:
// a restart begins it again.
func (d *Daemon) NoteStays() bool { return d.steering.noteStays.Load() && d.Maintenance() == nil }

// maxReason bounds the reason of a maintenance.
const maxReason = 200

// SetMaintenance begins a maintenance, or ends it. While it lasts every
// router, those of later reloads included, stays out of the election. A router that is
// Active hands over to a peer first, as far as there is one. Services go on: who still
// comes is served. The maintenance outlives reloads, and restarts, see KeepState. The
// warning says what is less than could be wished for; empty: nothing is.
func (d *Daemon) SetMaintenance(on bool, reason string) (warning string, err error) {
	if len(reason) > maxReason || strings.ContainsFunc(reason, unicode.IsControl) {
		return "", fmt.Errorf("the reason is %w: want up to %d bytes of text on one line", report.ErrInvalid, maxReason)
	}
	s := d.steering
	s.saving.Lock()
	defer s.saving.Unlock()
	if !on {
		return d.endMaintenance(), nil
	}
	m := &report.Maintenance{Since: time.Now(), Reason: reason}
	if before := s.inMaintenance(); before != nil {
		m.Since = before.Since
	}
	alone := s.unheard()
	s.setMaintenance(m) // first: a disk may be slow
	var warnings []string
	if w := d.note(maintenanceNote{Since: m.Since, Reason: reason}); w != "" {
		warnings = append(warnings, w)
	} else {
		lasting := *m
		lasting.Lasting = true
		s.setMaintenance(&lasting)
	}
	warning = strings.Join(append(warnings, alone...), "; ")
	args := []any{"reason", reason}
	if warning != "" {
		args = append(args, "warning", warning)
	}
	d.log.Warn("maintenance begins: every router stays out of the election", args...)
	return warning, nil
}

// endMaintenance ends the maintenance, if there is one. saving is held.
func (d *Daemon) endMaintenance() (warning string) {
	s := d.steering
	if s.folder != "" {
		path := filepath.Join(s.folder, maintenanceFile)
		err := removeDurably(path)
		if err != nil {
			d.log.Error("the note of the maintenance cannot be removed", "path", path, "err", err)
			warning = fmt.Sprintf("it ends now, but a restart begins it again: %v: remove that file", err)
		}
		s.noteStays.Store(err != nil)
	}
	if s.inMaintenance() != nil {
		s.setMaintenance(nil)
		d.log.Info("maintenance ends: routers take part again")
	}
	return warning
}

// note writes the file. It returns why that is of no use; empty: it is. saving is held.
func (d *Daemon) note(n maintenanceNote) (warning string) {
	folder := d.steering.folder
	if folder == "" {
		return "a restart ends it: admin.state is off"
	}
	text, err := json.Marshal(n)
	if err == nil {
		err = writeDurably(filepath.Join(folder, maintenanceFile), append(text, '\n'))
	}
	if err != nil {
		d.log.Error("the maintenance cannot be noted down: a restart ends it", "err", err)
		return fmt.Sprintf("a restart ends it, as it cannot be noted down: %v", err)
	}
	return ""
}

// setMaintenance holds the routers, or lets go of them.
func (s *steering) setMaintenance(m *report.Maintenance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.maintenance = m
	for _, e := range s.routers {
		if m != nil {
			e.hold()
		} else {
			e.letGo()
		}
	}
}

// unheard says for which Active routers no successor was heard. Backups are silent, so
// that is no proof that there is none.
func (s *steering) unheard() (warnings []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, e := range s.routers {
		if e.router == nil {
			continue
		}
		st := e.router.Status()
		if st.State != vrrp.Active || len(st.Peers) > 0 && st.Peers[0].Priority > 0 {
			continue
		}
		var addresses []string
		for _, a := range e.cfg.AllAddresses() {
			addresses = append(addresses, a.Prefix.Addr().String())
		}
		warnings = append(warnings, aloneWarning(name, addresses, st.Peers, time.Now()))
	}
	slices.Sort(warnings)
	return warnings
}

// aloneWarning says what is known of those who could have the addresses next: of peers
// only that the latest one left, with its priority 0.
func aloneWarning(router string, addresses []string, peers []vrrp.Peer, now time.Time) string {
	what := cmp.Or(strings.Join(addresses, ", "), "its place")
	if len(peers) == 0 {
		return fmt.Sprintf("no other router of %s was heard, but a Backup is silent: if there is none, nobody has %s now", router, what)
	}
	return fmt.Sprintf("%v of %s left %v ago, and was not heard since, but a Backup is silent: if it is not back, nobody has %s now",
		peers[0].Address, router, max(now.Sub(peers[0].LastHeard).Round(time.Second), time.Second), what)
}

// maxNote bounds the file that is read.
const maxNote = 4096

// readNote reads the file. there reports whether it is there, whatever is in it.
func readNote(path string) (note maintenanceNote, there bool, err error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return note, false, nil
	}
	if err != nil {
		return note, false, err
	}
	note.Since = info.ModTime()
	file, _, err := regular.Open(path) // a FIFO would keep the start waiting
	if err != nil {
		return note, true, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxNote))
	if err == nil {
		err = note.parse(text)
	}
	return note, true, err
}

// parse takes in what is in the file, or leaves n as it is.
func (n *maintenanceNote) parse(text []byte) error {
	var read maintenanceNote
	if err := json.Unmarshal(text, &read); err != nil {
		return err
	}
	if read.Since.IsZero() {
		return errors.New("it does not say since when")
	}
	*n = read
	return nil
}

// writeDurably writes a file that is there as a whole or not at all, also after a loss of
// power.
func writeDurably(path string, text []byte) error {
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	file, err := os.CreateTemp(folder, ".new-*")
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		os.Remove(file.Name())
		return err
	}
	return syncFolder(folder)
}

// removeDurably removes a file, if it is there, for good.
func removeDurably(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder makes the names in a folder outlast a loss of power.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
