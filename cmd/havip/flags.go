package main

import (
	"encoding/json"
	"errors"
	"slices"

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

// loadConfig reads the file, or takes the flags for one.
func loadConfig(c *cli.Context) (*config.Config, error) {
	set := slices.DeleteFunc(c.LocalFlagNames(), func(name string) bool {
		return name == "config" || name == "c" || name == realtimeFlag
	})
	if len(set) == 0 {
		return config.Load(c.String("config"))
	}
	if c.IsSet("config") {
		return nil, errors.New("havip run: --" + set[0] + " and --config: use one or the other")
	}
	data, err := json.Marshal(flagDocument(c)) // JSON is YAML
	if err != nil {
		return nil, err
	}
	return config.Parse("command line", data)
}

// flagDocument has the keys of a configuration file.
func flagDocument(c *cli.Context) map[string]any {
	doc := map[string]any{}
	router := given(c, map[string]string{
		"interface": "interface", "vrid": "vrid", "priority": "priority", "address": "addresses", "peer": "peers",
	})
	if len(router) > 0 {
		router["name"] = "VI_1"
		doc["vrrp"] = []any{router}
	}
	service := given(c, map[string]string{"listen": "listen", "backend": "backends"})
	if len(service) > 0 {
		service["name"], service["mode"] = "web", "http"
		service["check"] = map[string]any{"type": "tcp"}
		doc["services"] = []any{service}
	}
	return doc
}

// given returns the values of the flags that were given, by their keys.
func given(c *cli.Context, keys map[string]string) map[string]any {
	m := map[string]any{}
	for flag, key := range keys {
		if !c.IsSet(flag) {
			continue
		}
		m[key] = c.Value(flag)
		if list, ok := m[key].(cli.StringSlice); ok {
			m[key] = list.Value()
		}
	}
	return m
}
