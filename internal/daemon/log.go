package daemon

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/havip/havip/internal/config"
)

// NewLogger returns the logger that the configuration asks for, and its level,
// which may be changed at any time.
func NewLogger(w io.Writer, cfg config.Log) (*slog.Logger, *slog.LevelVar, error) {
	level := new(slog.LevelVar)
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		return nil, nil, fmt.Errorf("log level %q: want debug, info, warn or error", cfg.Level)
	}
	opts := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts)), level, nil
	}
	return slog.New(slog.NewTextHandler(w, opts)), level, nil
}
