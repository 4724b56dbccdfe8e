# Changes a header so that Doxygen understands it: removes attributes, and puts a group around the
# declarations that share a docstring. A docstring holds for all declarations that follow it, up to a
# blank line or another comment. Every line keeps its number, so that warnings name the right one.
# Usage: awk -f doxygen_filter.awk HEADER
{
  gsub(/\[\[(gnu::|nodiscard|noreturn)[^]]*\]\] */, "")
  line[NR] = $0
}
function indent(i) { match(line[i], /^ */); return RLENGTH }
function count(text, what) { return gsub(what, "", text) }

# The last line of the declarations that share the docstring in front of line i, if these are
# several functions or variables, which may also read `Tensor x, y;`; else 0.
function end_of_group(i,    depth, open, braces, all, last, text) {
  depth = indent(i)
  for (; i <= NR; ++i) {
    text = line[i]
    if (!open) {
      if (indent(i) != depth || text ~ /^ *($|\/\/|#|\}|public:|private:|protected:)/) break
      if (text ~ /^ *(template *<.*> *)?(namespace|class|struct|enum|concept|friend) /) break
      if (text ~ /\/\/\/</) break
      open = 1
    }
    sub(/ *\/\/.*/, "", text)
    braces += count(text, "[{(]") - count(text, "[)}]")
    if (braces == 0 && text ~ /[;}]$/) {
      open = 0
      last = i
      all += text ~ /,/ && text !~ /\(/ ? 2 : 1
    }
  }
  return all > 1 ? last : 0
}
END {
  # Functions that exist only to be refused, and comparisons of all members, need no docstring.
  for (i = 1; i <= NR; ++i) {
    if (line[i] ~ /operator==.*= default;/) line[i] = ""
    if (line[i] !~ /unavailable\(/) continue
    for (first = i; line[first - 1] !~ /[;{}]$|^ *(\/\/.*)?$/;) --first
    for (last = i; line[last] !~ /;$/;) ++last
    for (; first <= last; ++first) line[first] = " "
    i = last
  }
  for (i = 1; i <= NR; ++i) {
    if (line[i] !~ /^ *\/\/\/([^<]|$)/ || line[i] ~ /@file/) continue
    for (first = i; line[i + 1] ~ /^ *\/\/\//;) ++i
    if ((last = end_of_group(i + 1)) == 0) continue
    sub(/(^| +)\/\/[^\/].*|$/, "/**@{*/", line[first - 1])
    sub(/ *\/\/.*|$/, "/**@}*/", line[last])
  }
  for (i = 1; i <= NR; ++i) print line[i]
}
