package lb

import (
	"encoding/asn1"
	"encoding/hex"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// The name of a certificate's subject as OpenSSL writes it by RFC 2253, and nginx and Apache
// with it: programs compare these texts. pkix.Name prints attributes such as emailAddress,
// UID and DC as numbers.

// dnWords are OpenSSL's words for the types of attributes in names.
var dnWords = map[string]string{
	"2.5.4.3": "CN", "2.5.4.4": "SN", "2.5.4.5": "serialNumber", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.9": "street",
	"2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.12": "title", "2.5.4.13": "description", "2.5.4.17": "postalCode",
	"2.5.4.41": "name", "2.5.4.42": "GN", "2.5.4.43": "initials", "2.5.4.44": "generationQualifier", "2.5.4.46": "dnQualifier", "2.5.4.65": "pseudonym",
	"2.5.4.97": "organizationIdentifier", "1.2.840.113549.1.9.1": "emailAddress", "1.2.840.113549.1.9.2": "unstructuredName",
	"0.9.2342.19200300.100.1.1": "UID", "0.9.2342.19200300.100.1.25": "DC",
}

// relativeNameSET is a relative name: one attribute as a rule. The suffix tells package asn1
// that it is a set.
type relativeNameSET []struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// appendDN appends a name that is given in DER form. What is no name becomes nothing.
func appendDN(b, der []byte) []byte {
	var names []relativeNameSET
	if rest, err := asn1.Unmarshal(der, &names); err != nil || len(rest) > 0 {
		return b
	}
	for i, name := range slices.Backward(names) {
		if i < len(names)-1 {
			b = append(b, ',')
		}
		for j, a := range slices.Backward(name) {
			if j < len(name)-1 {
				b = append(b, '+')
			}
			number := a.Type.String()
			word, known := dnWords[number]
			if !known {
				word = number
			}
			b = append(append(b, word...), '=')
			if text, ok := dnText(a.Value); ok && known {
				b = appendDNValue(b, text)
			} else {
				b = append(b, '#')
				b = append(b, strings.ToUpper(hex.EncodeToString(a.Value.FullBytes))...)
			}
		}
	}
	return b
}

// dnText returns the text of a value in UTF-8; false: it is none.
func dnText(v asn1.RawValue) (text []byte, ok bool) {
	if v.Class != asn1.ClassUniversal {
		return nil, false
	}
	switch v.Tag {
	case asn1.TagPrintableString, asn1.TagUTF8String, asn1.TagIA5String, asn1.TagNumericString:
		return v.Bytes, true
	case asn1.TagT61String: // in practice Latin-1
		for _, c := range v.Bytes {
			text = utf8.AppendRune(text, rune(c))
		}
		return text, true
	case asn1.TagBMPString:
		if len(v.Bytes)%2 != 0 {
			return nil, false
		}
		units := make([]uint16, 0, len(v.Bytes)/2)
		for i := 0; i < len(v.Bytes); i += 2 {
			units = append(units, uint16(v.Bytes[i])<<8|uint16(v.Bytes[i+1]))
		}
		return []byte(string(utf16.Decode(units))), true
	}
	return nil, false
}

// appendDNValue appends a text with what has a meaning in names, and all that is not ASCII,
// escaped (RFC 2253 §2.4). So no value can end the header that it stands in.
func appendDNValue(b, text []byte) []byte {
	const digits = "0123456789ABCDEF"
	for i, c := range text {
		switch {
		case c < ' ' || c >= 0x7f:
			b = append(b, '\\', digits[c>>4], digits[c&15])
			continue
		case strings.IndexByte(`,+"\<>;`, c) >= 0, i == 0 && (c == ' ' || c == '#'), i == len(text)-1 && c == ' ':
			b = append(b, '\\')
		}
		b = append(b, c)
	}
	return b
}
