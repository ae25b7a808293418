//go:build unix

package healthcheck

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"slices"
	"syscall"
)

// acl says who may do what with a file, as the kernel sees it
// (posix_acl_permission in fs/posix_acl.c).
type acl struct {
	owner, group uint32
	entries      []aclEntry // in the order of their tags
}

// aclEntry is one entry of a list. perm has the bits of a file's mode: r 4, w 2, x 1.
type aclEntry struct {
	tag, perm uint16
	id        uint32 // of the user or group, for aclUser and aclGroup
}

// Tags of entries (uapi/linux/posix_acl.h).
const (
	aclUserObj  = 0x01 // the owner
	aclUser     = 0x02
	aclGroupObj = 0x04 // the file's group
	aclGroup    = 0x08
	aclMask     = 0x10 // the most that the tags above give, except aclUserObj
	aclOther    = 0x20

	aclVersion = 2

	mayWrite, mayExecute = 0o2, 0o1
)

// modeACL returns the entries that a file's mode stands for.
func modeACL(mode fs.FileMode) []aclEntry {
	perm := func(shift int) uint16 { return uint16(mode.Perm()>>shift) & 0o7 }
	return []aclEntry{{tag: aclUserObj, perm: perm(6)}, {tag: aclGroupObj, perm: perm(3)}, {tag: aclOther, perm: perm(0)}}
}

// parseACL decodes the value of the attribute system.posix_acl_access
// (uapi/linux/posix_acl_xattr.h): a version and entries of eight bytes, all
// little endian.
func parseACL(b []byte) ([]aclEntry, error) {
	if len(b) < 12 || len(b)%8 != 4 {
		return nil, fmt.Errorf("access control list of %d bytes: want 4, and 8 for each entry", len(b))
	}
	if v := binary.LittleEndian.Uint32(b); v != aclVersion {
		return nil, fmt.Errorf("access control list of version %d: want %d", v, aclVersion)
	}
	var entries []aclEntry
	for e := range slices.Chunk(b[4:], 8) {
		entry := aclEntry{binary.LittleEndian.Uint16(e), binary.LittleEndian.Uint16(e[2:]), binary.LittleEndian.Uint32(e[4:])}
		switch entry.tag {
		case aclUserObj, aclUser, aclGroupObj, aclGroup, aclMask, aclOther:
		default:
			return nil, fmt.Errorf("access control list with an entry of tag %#x", entry.tag)
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// mask returns the most that named users and all groups may do.
func (a acl) mask() uint16 {
	if i := slices.IndexFunc(a.entries, func(e aclEntry) bool { return e.tag == aclMask }); i >= 0 {
		return a.entries[i].perm
	}
	return 0o7
}

// writers names somebody who may write and is neither the owner, root nor a trusted
// user; "" if there is nobody.
func (a acl) writers(trusted func(uid uint32) bool) string {
	for _, e := range a.entries {
		perm := e.perm
		if e.tag != aclOther {
			perm &= a.mask()
		}
		switch {
		case perm&mayWrite == 0:
		case e.tag == aclUser && !trusted(e.id):
			return fmt.Sprintf("user %d by its access control list", e.id)
		case e.tag == aclGroup && e.id != 0:
			return fmt.Sprintf("group %d by its access control list", e.id)
		case e.tag == aclGroupObj && a.group != 0, e.tag == aclOther:
			return "others"
		}
	}
	return ""
}

// allows reports whether a user may do what perm says. Root may do anything, except
// execute a file that nobody may execute.
func (a acl) allows(as *syscall.Credential, perm uint16) bool {
	if as.Uid == 0 {
		return true
	}
	member := func(gid uint32) bool { return as.Gid == gid || slices.Contains(as.Groups, gid) }
	inGroup := false
	for _, e := range a.entries {
		switch {
		case e.tag == aclUserObj && a.owner == as.Uid:
			return e.perm&perm == perm
		case e.tag == aclUser && e.id == as.Uid:
			return e.perm&a.mask()&perm == perm
		case e.tag == aclGroupObj && member(a.group), e.tag == aclGroup && member(e.id):
			if e.perm&perm == perm {
				return a.mask()&perm == perm
			}
			inGroup = true
		case e.tag == aclOther:
			return !inGroup && e.perm&perm == perm
		}
	}
	return false
}
