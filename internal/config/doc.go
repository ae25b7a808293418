// Package config turns a havip configuration file, YAML, into plain structs
// that are complete and consistent: every default is filled in and every rule
// that needs no kernel has been checked. It is the only package that knows
// YAML.
//
// Decoding is strict and driven by the tables in keys.go, keys_check.go and
// keys_service.go: one row for each key, with its type, range, default, an example
// and one line of documentation. The decoder, the suggestions in error messages and
// [WriteDefaults] all read these rows; there is no second list. To add a key,
// add a field to its struct and a row to its table. To add a kind of check, add
// a row to checkTypes, and a case to newChecker in package daemon.
//
// All problems of a file are reported at once, as [Errors], each with file,
// line and column:
//
//	lb01.yaml:7:11: vrrp[0].vrid: 256: want 1 to 255
package config
