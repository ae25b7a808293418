//go:build unix

package healthcheck

import (
	"encoding/binary"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// withNamed is the access control list of mode 755 with another entry for others, a named
// user or group, and a mask, in the order that the kernel wants.
func withNamed(named aclEntry, mask, other uint16) []aclEntry {
	list := []aclEntry{{aclUserObj, 7, none}, named, {aclGroupObj, 5, none}, {aclMask, mask, none}, {aclOther, other, none}}
	slices.SortFunc(list, func(a, b aclEntry) int { return int(a.tag) - int(b.tag) })
	return list
}

// encodeACL is the attribute's value for an access control list.
func encodeACL(entries ...aclEntry) []byte {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

// none is the number of entries without one (ACL_UNDEFINED_ID).
const none = 1<<32 - 1

// TestACLWriters: an access control list lets a user write whom the mode does not show: the
// mode has the mask in the place of the group.
func TestACLWriters(t *testing.T) {
	for _, tc := range []struct {
		name  string
		group uint32
		list  []aclEntry
		want  string
	}{
		{"mode 755", 0, modeACL(0o755), ""},
		{"mode 775 of root's group", 0, modeACL(0o775), ""},
		{"mode 775 of another group", 4, modeACL(0o775), "others"},
		{"mode 757", 0, modeACL(0o757), "others"},
		{"a user may write", 0, withNamed(aclEntry{aclUser, 7, 42}, 7, 5), "user 42"},
		{"a user may write, the mask does not let him", 0, withNamed(aclEntry{aclUser, 7, 42}, 5, 5), ""},
		{"a user may read", 0, withNamed(aclEntry{aclUser, 5, 42}, 7, 5), ""},
		{"the trusted user may write", 0, withNamed(aclEntry{aclUser, 7, 1000}, 7, 5), ""},
		{"root may write", 0, withNamed(aclEntry{aclUser, 7, 0}, 7, 5), ""},
		{"a group may write", 0, withNamed(aclEntry{aclGroup, 7, 43}, 7, 5), "group 43"},
		{"root's group may write", 0, withNamed(aclEntry{aclGroup, 7, 0}, 7, 5), ""},
		{"others may write", 0, withNamed(aclEntry{aclUser, 0, 42}, 5, 7), "others"},
		{"a user without a number here", 0, withNamed(aclEntry{aclUser, 7, none}, 7, 5), "user 4294967295"},
		// The mode shows g+w here, though the file's group may not.
		{"the mask of another group", 4, withNamed(aclEntry{aclUser, 7, 0}, 7, 5), ""},
	} {
		got := acl{group: tc.group, entries: tc.list}.writers(func(uid uint32) bool { return uid == 0 || uid == 1000 })
		if tc.want == "" && got != "" || !strings.HasPrefix(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
		again, err := parseACL(encodeACL(tc.list...))
		if err != nil || !reflect.DeepEqual(again, tc.list) {
			t.Errorf("%s: parsed as %v (%v)", tc.name, again, err)
		}
	}
}

// TestACLAllows: the first class that a user belongs to decides. Of several groups one is
// enough.
func TestACLAllows(t *testing.T) {
	named := []aclEntry{{aclUserObj, 6, none}, {aclUser, 1, 42}, {aclUser, 6, 43}, {aclGroupObj, 4, none}, {aclGroup, 1, 52}, {aclMask, 5, none}, {aclOther, 1, none}}
	masked := []aclEntry{{aclUserObj, 6, none}, {aclUser, 7, 42}, {aclGroupObj, 7, none}, {aclMask, 6, none}, {aclOther, 0, none}}
	for _, tc := range []struct {
		name string
		list []aclEntry
		as   syscall.Credential
		want bool
	}{
		{"owner", modeACL(0o700), syscall.Credential{Uid: 10}, true},
		{"owner, who alone may not", modeACL(0o077), syscall.Credential{Uid: 10, Gid: 20}, false},
		{"group", modeACL(0o070), syscall.Credential{Uid: 11, Gid: 20}, true},
		{"group, which alone may not", modeACL(0o707), syscall.Credential{Uid: 11, Gid: 20}, false},
		{"another of the groups", modeACL(0o070), syscall.Credential{Uid: 11, Gid: 21, Groups: []uint32{20}}, true},
		{"others", modeACL(0o001), syscall.Credential{Uid: 11, Gid: 21}, true},
		{"others, who alone may not", modeACL(0o770), syscall.Credential{Uid: 11, Gid: 21}, false},
		{"root", modeACL(0o001), syscall.Credential{Uid: 0}, true},
		{"user by name", named, syscall.Credential{Uid: 42, Gid: 20}, true},
		{"user by name, who may not", named, syscall.Credential{Uid: 43, Gid: 52}, false},
		{"group by name", named, syscall.Credential{Uid: 11, Gid: 52}, true},
		{"one of two groups", named, syscall.Credential{Uid: 11, Gid: 20, Groups: []uint32{52}}, true},
		{"owner beside a list", named, syscall.Credential{Uid: 10, Gid: 52}, false},
		{"others beside a list", named, syscall.Credential{Uid: 11, Gid: 21}, true},
		{"user by name and mask", masked, syscall.Credential{Uid: 42, Gid: 21}, false},
		{"group and mask", masked, syscall.Credential{Uid: 11, Gid: 20}, false},
	} {
		if got := (acl{owner: 10, group: 20, entries: tc.list}).allows(&tc.as, mayExecute); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func FuzzParseACL(f *testing.F) {
	f.Add(encodeACL(modeACL(0o755)...))
	f.Add(encodeACL(aclEntry{aclUserObj, 7, none}, aclEntry{aclUser, 7, 42}, aclEntry{aclGroupObj, 5, none}, aclEntry{aclMask, 7, none}, aclEntry{aclOther, 5, none}))
	f.Add(encodeACL(aclEntry{0x40, 7, 0})) // an unknown tag
	f.Add(encodeACL())                     // no entries
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0})  // another version, and half an entry
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := parseACL(b)
		if err != nil {
			return
		}
		if again := encodeACL(entries...); string(again) != string(b) {
			t.Errorf("%x became %x", b, again)
		}
		a := acl{entries: entries}
		a.writers(func(uint32) bool { return false })
		a.allows(&syscall.Credential{Uid: 1, Gid: 2}, mayExecute)
	})
}
