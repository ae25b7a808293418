package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// completionFlag is what a shell asks for names with; it stands last.
const completionFlag = "--generate-bash-completion"

// flagsFirst moves the flags of a command in front of its words, where the library finds
// them: 'havip maintenance on --reason updates' is how people write. Behind -- there are
// words only.
func flagsFirst(app *cli.App, args []string) []string {
	if len(args) < 3 || args[len(args)-1] == completionFlag {
		return args
	}
	command := app.Command(args[1])
	if command == nil || len(command.Subcommands) > 0 {
		return args
	}
	var flags, words []string
	for rest := args[2:]; len(rest) > 0; {
		arg := rest[0]
		rest = rest[1:]
		switch {
		case arg == "--":
			words, rest = append(words, rest...), nil
		case len(arg) < 2 || arg[0] != '-' || isNumber(arg):
			words = append(words, arg)
		case len(rest) > 0 && takesNext(command, arg, rest[0]):
			if isOptional(command, arg) {
				flags = append(flags, arg+"="+rest[0])
			} else {
				flags = append(flags, arg, rest[0])
			}
			rest = rest[1:]
		default:
			flags = append(flags, arg)
		}
	}
	out := append([]string{args[0], args[1]}, flags...)
	if len(words) > 0 {
		out = append(append(out, "--"), words...)
	}
	return out
}

// isNumber reports whether a word such as -5 is one: the command says what is wrong with it.
func isNumber(word string) bool {
	_, err := strconv.ParseFloat(word, 64)
	return err == nil
}

// takesNext reports whether the next word is the value of a flag.
func takesNext(c *cli.Command, arg, next string) bool {
	if isOptional(c, arg) {
		_, err := time.ParseDuration(next)
		return err == nil
	}
	f, ok := findFlag(c, arg).(cli.DocGenerationFlag)
	return ok && f.TakesValue()
}

// isOptional reports whether a flag may stand without its value, a duration.
func isOptional(c *cli.Command, arg string) bool {
	f, ok := findFlag(c, arg).(*cli.GenericFlag)
	if !ok {
		return false
	}
	_, ok = f.Value.(*optionalDuration)
	return ok
}

// findFlag finds the flag of an argument; nil: there is none, or its value is in it.
func findFlag(c *cli.Command, arg string) cli.Flag {
	name := strings.TrimLeft(arg, "-")
	for _, f := range c.Flags {
		for _, n := range f.Names() {
			if n == name {
				return f
			}
		}
	}
	return nil
}

// optionalDuration is the value of a flag that may stand alone, or with a duration.
type optionalDuration struct {
	set   bool
	value time.Duration
}

// IsBoolFlag has package flag accept the flag without a value.
func (d *optionalDuration) IsBoolFlag() bool { return true }

// Set takes a duration, or what package flag says if there is none.
func (d *optionalDuration) Set(text string) error {
	d.set = true
	if text == "true" {
		return nil
	}
	value, err := time.ParseDuration(text)
	if err == nil {
		d.value = value
	}
	return err
}

// String prints the default.
func (d *optionalDuration) String() string { return d.value.String() }
