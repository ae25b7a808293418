// Package report is what a havip says of itself, as plain values: a Status, its Events,
// the Explanation of an address, and the Change that a reload would make. The admin API
// sends them as JSON; the commands and the status page show them. Nothing here reads a
// clock, opens a file or knows the daemon: who makes a value says what time it is.
//
// The names of the JSON fields are those of the API, version 1. Durations are seconds,
// as fractions. Times are RFC 3339 with nanoseconds; a time that is not known is left out.
package report
