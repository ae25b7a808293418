// Package words gives the values of an enumeration their words: for String,
// MarshalText and UnmarshalText, and for an error that lists them.
package words

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Integer is the type of an enumeration.
type Integer interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64
}

// Of returns the word for v, which is its index in list, or "Type(7)" if v has
// none. An empty word is none.
func Of[T Integer](list []string, v T) string {
	if Has(list, v) {
		return list[v]
	}
	return fmt.Sprintf("%s(%d)", reflect.TypeFor[T]().Name(), v)
}

// Has reports whether v has a word in list.
func Has[T Integer](list []string, v T) bool {
	return v >= 0 && uint64(v) < uint64(len(list)) && list[v] != ""
}

// Parse sets v to the value that has text as its word in list, exactly. The
// error names the words that are possible.
func Parse[T Integer](list []string, text []byte, v *T) error {
	i := slices.Index(list, string(text))
	if i < 0 || list[i] == "" {
		return fmt.Errorf("%q: want %s", text, Choice(list))
	}
	*v = T(i)
	return nil
}

// Choice returns the words of list for a sentence: "pass, ah or hmac".
func Choice(list []string) string {
	list = slices.DeleteFunc(slices.Clone(list), func(w string) bool { return w == "" })
	last := len(list) - 1
	if last < 1 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:last], ", ") + " or " + list[last]
}
