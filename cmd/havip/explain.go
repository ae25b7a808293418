package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/havip/havip/internal/report"
)

func explainCommand() *cli.Command {
	return askCommand(&cli.Command{
		Name:      "explain",
		Usage:     "why this host has a virtual address, or does not, and what to look at next",
		ArgsUsage: "[ADDRESS]",
		Description: "The ADDRESS may be left out if there is only one.\n\n" +
			"Exit codes: 0 it is explained, whatever is found. 1 no router has the address, or no havip answers. 2 wrong usage.\n\n" +
			"   havip explain 192.168.31.250",
		Flags:  []cli.Flag{outputFlag("text or json"), noColorFlag},
		Action: showExplanation,
	}, addresses)
}

func showExplanation(c *cli.Context) error {
	asJSON, err := wantsJSON(c)
	if err == nil {
		err = wordCount(c, 0, 1)
	}
	if err != nil {
		return err
	}
	address, _, _ := strings.Cut(c.Args().First(), "/") // people copy it with its length
	if _, err := netip.ParseAddr(address); err != nil && c.Args().Present() {
		return usageError(fmt.Errorf("havip explain: %q: want an address such as 192.168.31.250", c.Args().First()))
	}
	cl, s, err := askStatus(c)
	if err != nil {
		return err
	}
	if address == "" {
		if address, err = onlyAddress(s); err != nil {
			return err
		}
	}
	ctx, stop := context.WithTimeout(c.Context, patience)
	defer stop()
	x, err := cl.Explain(ctx, address)
	if err != nil {
		return failed(c, err)
	}
	if asJSON {
		return printJSON(c.App.Writer, x, "  ")
	}
	_, err = fmt.Fprint(c.App.Writer, report.RenderExplanation(x, layout(c)))
	return err
}

// addresses are all virtual ones.
func addresses(s *report.Status) (list []string) {
	for _, r := range s.Routers {
		for _, a := range r.Addresses {
			address, _, _ := strings.Cut(a.Address, "/")
			list = append(list, address)
		}
	}
	return list
}

func onlyAddress(s *report.Status) (string, error) {
	switch list := addresses(s); len(list) {
	case 0:
		return "", errors.New("havip explain: there is no virtual address in the configuration")
	case 1:
		return list[0], nil
	default:
		return "", usageError(fmt.Errorf("havip explain: which address? There are %s", strings.Join(list, ", ")))
	}
}
