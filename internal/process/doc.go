// Package process starts the programs of this process, and looks at those of the
// machine. Nothing in it runs by itself.
package process
