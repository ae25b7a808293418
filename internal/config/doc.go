// Package config turns a havip configuration file, YAML, into the configurations of
// the public packages: vrrp.Config, vip.Config, lb.PoolConfig, checkers and so on.
// It is the only package that knows YAML.
//
// Tables drive it: keys.go and its neighbours, such as keys_router.go, have a row for each
// key, with a pointer to the field that gets the value, a sample and a sentence. The
// decoder, [WriteDefaults] and the suggestions in messages read these rows. A row says
// neither a range nor a default: the field's library does. A value takes this way:
//
//   - The decoder reads the node (decode.go, scalar.go and its neighbours). Fields that
//     the file does not name get the library's WithDefaults (home.go).
//   - When all is decoded, the library's Validate names the fields that are wrong. The
//     rows know the names of their fields, and so lead to path, line and column (report.go).
//   - Rules across objects follow: names, references, loops (validate.go and others).
//
// To add a key, add a field with its rule and its default to the library, a row to the
// table, and the key to testdata/everything.yaml: a test fails for a field without a
// row. To add a checker, add an entry to checkTypes. A balancing method needs nothing
// here. Defaults that differ from the library's on purpose are presets, each with its
// reason beside it.
//
// Decoding is strict. All problems of a file are reported at once, as [Errors], each
// with file, line and column:
//
//	lb01.yaml:7:11: vrrp[0].vrid: 256: want 1 to 255
package config
