package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/havip/havip/internal/config"
)

// routerFlags describe one virtual router and one service, which is what a
// two-node pair needs: small enough for a command line.
func routerFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "interface", Usage: "without a file: the `INTERFACE` that gets the addresses"},
		&cli.IntFlag{Name: "vrid", Usage: "without a file: virtual router `ID`, 1 to 255", DefaultText: "none"},
		&cli.StringSliceFlag{Name: "address", Usage: "without a file: a virtual `ADDRESS/LENGTH`; may be repeated"},
		&cli.IntFlag{Name: "priority", Usage: "without a file: `PRIORITY`, 1 to 255, the highest serves", DefaultText: "100"},
		&cli.StringSliceFlag{Name: "peer", Usage: "without a file: the other node's `ADDRESS`, for unicast; may be repeated"},
		&cli.StringFlag{Name: "listen", Usage: "without a file: serve HTTP on this `ADDRESS:PORT`"},
		&cli.StringSliceFlag{Name: "backend", Usage: "without a file: a `HOST:PORT` to spread requests over; may be repeated"},
	}
}

// setRouterFlags are the flags that stand in the place of a file.
func setRouterFlags(c *cli.Context) []string {
	return slices.DeleteFunc(c.LocalFlagNames(), func(name string) bool {
		return slices.Contains([]string{"config", "c", realtimeFlag, strictFlag}, name)
	})
}

// configFile is where loadConfig reads; empty: the flags are everything.
func configFile(c *cli.Context) string {
	if len(setRouterFlags(c)) > 0 {
		return ""
	}
	return c.String("config")
}

// loadConfig reads the file, or makes a configuration of the flags.
func loadConfig(c *cli.Context) (*config.Config, error) {
	set := setRouterFlags(c)
	if len(set) == 0 {
		return load(c.Context, c.String("config"))
	}
	if c.IsSet("config") {
		return nil, errors.New("havip run: --" + set[0] + " and --config: use one or the other")
	}
	doc := flagDocument(c)
	if doc["vrrp"] != nil && !c.IsSet("address") {
		return nil, missingFlag("address") // without a file there is nothing else to move
	}
	data, err := json.Marshal(doc) // JSON is YAML
	if err != nil {
		return nil, err
	}
	cfg, err := config.Parse("command line", data)
	return cfg, inFlags(err)
}

// load reads a file. What is not a file, such as a FIFO, may keep the reader
// waiting for ever: a signal ends that.
func load(ctx context.Context, path string) (cfg *config.Config, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		cfg, err = config.Load(path)
	}()
	select {
	case <-done:
		return cfg, err
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w while reading it", path, errInterrupted)
	}
}

// errInterrupted: a signal has come that ends the program.
var errInterrupted = errors.New("interrupted")

// flagKeys are the keys of flagDocument and the flags that set them.
var flagKeys = map[string]string{
	"vrrp[0].interface": "interface", "vrrp[0].vrid": "vrid", "vrrp[0].priority": "priority",
	"vrrp[0].addresses": "address", "vrrp[0].peers": "peer",
	"services[0].listen": "listen", "services[0].backends": "backend",
}

// elements finds the key of a flag at the beginning of a path, which may go on to an
// element of a list, and to a key of that element.
var elements = regexp.MustCompile(`^((?:vrrp|services)\[0\]\.\w+).*`)

// inFlags names the flag of each mistake. Lines and columns would mean nothing: nobody
// wrote the document.
func inFlags(err error) error {
	var problems config.Errors
	if !errors.As(err, &problems) {
		return err
	}
	var out []error
	for _, p := range problems {
		flag, ok := flagKeys[elements.ReplaceAllString(p.Path, "$1")]
		switch {
		case !ok:
			out = append(out, fmt.Errorf("havip run: %s: %s", p.Path, p.Text))
		case strings.HasPrefix(p.Text, "missing"):
			out = append(out, missingFlag(flag))
		default:
			out = append(out, fmt.Errorf("havip run: --%s: %s", flag, p.Text))
		}
	}
	return errors.Join(out...)
}

func missingFlag(name string) error {
	return fmt.Errorf("havip run: --%s is missing beside the other flags: see 'havip run --help'", name)
}

// flagDocument has the keys of a configuration file.
func flagDocument(c *cli.Context) map[string][]map[string]any {
	doc := map[string][]map[string]any{}
	for path, flag := range flagKeys {
		if !c.IsSet(flag) {
			continue
		}
		list, key, _ := strings.Cut(path, "[0].")
		if doc[list] == nil {
			doc[list] = []map[string]any{maps.Clone(besideFlags[list])}
		}
		value := c.Value(flag)
		if several, ok := value.(cli.StringSlice); ok {
			value = several.Value()
		}
		doc[list][0][key] = value
	}
	return doc
}

// besideFlags are the keys that no flag sets.
var besideFlags = map[string]map[string]any{
	"vrrp":     {"name": "VI_1"},
	"services": {"name": "web", "mode": "http", "check": map[string]any{"type": "tcp"}},
}
