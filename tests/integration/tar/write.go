// Writes a tar with the writer of Go: write ARCHIVE FORMAT (ustar, gnu, pax).
package main

import (
	"archive/tar"
	"os"
	"strings"
	"time"
)

func main() {
	file, err := os.Create(os.Args[1])
	check(err)
	format := map[string]tar.Format{"ustar": tar.FormatUSTAR, "gnu": tar.FormatGNU, "pax": tar.FormatPAX}[os.Args[2]]
	isLong := format != tar.FormatUSTAR
	writer := tar.NewWriter(file)
	add := func(header tar.Header, content string) {
		header.Format = format
		header.Size = int64(len(content))
		if header.ModTime.IsZero() {
			header.ModTime = time.Unix(1700000000, 0)
		}
		check(writer.WriteHeader(&header))
		_, err := writer.Write([]byte(content))
		check(err)
	}
	if format == tar.FormatPAX {
		check(writer.WriteHeader(&tar.Header{
			Typeflag:   tar.TypeXGlobalHeader,
			Name:       "global",
			PAXRecords: map[string]string{"comment": "all", "uname": "global user"},
			Format:     format,
		}))
	}
	add(tar.Header{Typeflag: tar.TypeReg, Name: "plain", Mode: 0o644, Uid: 7, Gid: 8, Uname: "u", Gname: "g"}, "content")
	add(tar.Header{Typeflag: tar.TypeDir, Name: "dir/", Mode: 0o755}, "")
	add(tar.Header{Typeflag: tar.TypeReg, Name: "dir/" + strings.Repeat("p", 120) + "/" + strings.Repeat("n", 90), Mode: 0o600}, "prefix")
	add(tar.Header{Typeflag: tar.TypeLink, Name: "hard", Linkname: "plain", Mode: 0o644}, "")
	add(tar.Header{Typeflag: tar.TypeSymlink, Name: "soft", Linkname: "dir", Mode: 0o777}, "")
	add(tar.Header{Typeflag: tar.TypeChar, Name: "null", Mode: 0o666, Devmajor: 1, Devminor: 3}, "")
	add(tar.Header{Typeflag: tar.TypeFifo, Name: "pipe", Mode: 0o600}, "")
	if isLong {
		add(tar.Header{Typeflag: tar.TypeReg, Name: strings.Repeat("l", 256), Mode: 0o600}, "long")
		add(tar.Header{Typeflag: tar.TypeSymlink, Name: "long link", Linkname: strings.Repeat("l", 256), Mode: 0o777}, "")
		add(tar.Header{Typeflag: tar.TypeReg, Name: "日本語", Mode: 0o600, Uid: 1 << 22, Gid: 1 << 30}, "unicode")
		add(tar.Header{Typeflag: tar.TypeReg, Name: "time", Mode: 0o600, ModTime: time.Unix(1<<34, 0)}, "t")
	}
	if format == tar.FormatPAX {
		add(tar.Header{Typeflag: tar.TypeReg, Name: "nanos", Mode: 0o600, ModTime: time.Unix(1700000000, 123456789)}, "n")
		add(tar.Header{Typeflag: tar.TypeReg, Name: "before", Mode: 0o600, ModTime: time.Unix(-2, 500000000)}, "n")
	}
	check(writer.Close())
	check(file.Close())
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
