/** What makes two usernames or two emails the same one: neither case nor Unicode form counts. */
export function loginKey(login: string): string {
  return login.normalize('NFKC').toLowerCase().normalize('NFKC')
}
