// Package labtest has what tests of several packages need: servers, certificates and
// a look at processes.
package labtest
