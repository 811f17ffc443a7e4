# Reads the camera's /home/init.sh and prints what follows the hook's block, which is
#
#   if [ -f "/home/hd1/test/equip_test.sh" ]; then
#     /home/hd1/test/equip_test.sh
#     exit
#   fi
#
# after the variables that are set before it. Ends with status 1 where the file is otherwise: without this block, with
# another in its place, or with something before it that what follows may rely on.
{
  line = $0
  sub(/\r$/, "", line)
  gsub(/^[ \t]+|[ \t]+$/, "", line)
}
part == 0 && line ~ /^if \[ -f "?\/home\/hd1\/test\/equip_test\.sh"? \][ \t]*;[ \t]*then$/ { part = 1; next }
part == 0 {
  if (line ~ /equip_test/ || line ~ /^(function |[A-Za-z0-9_]+ *\(\))/) strange = 1
  if (line ~ /^[A-Za-z_][A-Za-z0-9_]*=[^ \t;&|`$()]*$/) print line
  next
}
part == 1 {
  if (line ~ /^(sh )?"?\/home\/hd1\/test\/equip_test\.sh"?$/) calls++
  else if (line ~ /^exit( [0-9]+)?$/) exits++
  else if (line == "fi") part = 2
  else if (line != "" && line !~ /^#/) strange = 1
  next
}
{
  if (line ~ /equip_test/) strange = 1
  print
}
END { exit !(part == 2 && calls == 1 && exits == 1 && !strange) }
